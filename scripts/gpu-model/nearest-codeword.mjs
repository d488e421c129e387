// nearest_codeword: a block takes 64 rows past all codewords, 64 at a time.
import { neverUnaligned } from "./keys.mjs";

const kKernel = "cuda/nearest_codeword/nearest_codeword.cuh";
const kTile = "cuda/nearest_codeword/dot_tile.cuh";

export const nearestTiles = {
  source: "cuda/nearest_codeword/nearest_codeword.cu",
  kernel: "nearest_tile_kernel<__half>",
  launch: ({ problems, rows, dims }) => ({
    blocks: problems * Math.ceil(rows / 64),
    threads: 256,
    bytes: problems * rows * (dims * 2 + 4),
  }),
  loops: [
    {
      file: kKernel,
      within: "find_work",
      text: "while (high - low > 1)",
      trips: ({ problems }) => Math.log2(problems),
    },
    {
      file: kKernel,
      within: "nearest_tile_kernel",
      text: "for (int64_t first",
      trips: ({ codewords }) => codewords / 64,
    },
    { file: kTile, within: "dot_tile", text: "for (int first", trips: ({ dims }) => dims / 32 },
    {
      file: kTile,
      within: "dot_tile",
      text: "for (int d = 0; d < dims",
      trips: () => 32,
      unit: ["FFMA", 16],
      isWhole: true,
    },
  ],
  // No norms are asked for.
  parts: [
    ...neverUnaligned,
    { file: kKernel, within: "norm_of_row" },
    { file: kKernel, within: "unit_of" },
  ],
  // Of 32 threads 16 read different columns, and two different rows.
  cycles: { "LDS.128": 1.5 },
};
