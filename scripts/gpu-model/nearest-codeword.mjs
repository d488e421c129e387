// nearest_codeword on tensor cores: the largest norm of the codewords, then 256 rows a block past all codewords, 64 at a
// time. Rows whose two best products are too near are searched again: next to none of rows that differ.
import { neverUnaligned } from "./keys.mjs";

const kSource = "cuda/nearest_codeword/nearest_codeword.cu";
const kRows = "cuda/nearest_codeword/rows.cuh";
const kScreen = "cuda/nearest_codeword/screen.cuh";
const kBlockRows = 256;
const blocks = ({ problems, rows }) => problems * Math.ceil(rows / kBlockRows);
const findWork = {
  file: kRows,
  within: "find_work",
  text: "while (high - low > 1)",
  trips: ({ problems }) => Math.log2(problems),
};
const norm = {
  file: kRows,
  within: "norm_of_row",
  text: "for (int dim",
  trips: ({ dims }) => dims / 8,
  unit: ["FFMA", 8],
};

export const codewordNorms = {
  source: kSource,
  kernel: "codeword_norm_kernel<__half>",
  launch: ({ problems, codewords, dims }) => ({
    blocks: problems,
    threads: 256,
    bytes: problems * codewords * dims * 2,
  }),
  loops: [
    {
      file: kScreen,
      within: "codeword_norm_kernel",
      text: "for (int64_t codeword",
      trips: ({ codewords }) => codewords / 256,
    },
    norm,
  ],
  parts: neverUnaligned,
};

export const nearestScreen = {
  source: kSource,
  kernel: "nearest_screen_kernel<ScreenTraits<__half, 128> >",
  launch: (shape) => ({
    blocks: blocks(shape),
    threads: 256,
    dynamicBytes: 2 * 64 * (shape.dims + 8) * 2 + 2 * 4 * kBlockRows,
    bytes: shape.problems * shape.rows * (shape.dims * 2 + 4),
    l2Bytes: blocks(shape) * shape.codewords * shape.dims * 2,
  }),
  loops: [
    findWork,
    {
      file: kScreen,
      within: "nearest_screen_kernel",
      text: "for (int64_t first",
      trips: ({ codewords }) => codewords / 64,
    },
    {
      file: kScreen,
      within: "nearest_screen_kernel",
      text: "for (int column",
      trips: () => 8,
      unit: ["HMMA", 16],
    },
    norm,
  ],
  parts: neverUnaligned,
};

export const nearestFinish = {
  source: kSource,
  kernel: "nearest_finish_kernel<__half>",
  launch: (shape) => ({
    blocks: blocks(shape),
    threads: 256,
    bytes: shape.problems * shape.rows * 4,
  }),
  loops: [
    findWork,
    {
      file: kScreen,
      within: "nearest_finish_kernel",
      text: "for (int i = 0;",
      trips: () => 0,
    },
  ],
  // No scores are asked for, and no row is searched.
  parts: [
    ...neverUnaligned,
    { file: kRows, within: "norm_of_row" },
    { file: kRows, within: "dot_of_rows" },
    { file: kRows, within: "search_row" },
    { file: kRows, within: "unit_of" },
  ],
};
