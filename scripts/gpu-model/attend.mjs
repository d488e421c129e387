// attend: blocks over splits of the slots of a head, whose last one merges; then column sums where asked for.
import { findOwner, findRun, neverTurned } from "./keys.mjs";

const kSource = "cuda/attend/attend.cu";
const kMma = "cuda/attend/attend_mma.cuh";
const kMmaTile = "cuda/attend/mma_tile.cuh";
const kMmaSums = "cuda/attend/mma_sums.cuh";
const kMerge = "cuda/attend/merge.cuh";
const kScores = "cuda/attend/scores.cuh";
const kBlock = "cuda/attend/block.cuh";
const kTile = 16; // slots of a warp's tile
const kWarps = 4;
const kRows = 16; // of a block

/** As split_slots of cuda/attend/params.h. */
export function splitSlots(slots) {
  let size = 128;
  while (size * 64 < slots) size *= 2;
  return size;
}

/** Blocks of all items: each has `heads` heads of `slots` slots. */
const blocksOf = ({ heads, slots }) => heads * Math.ceil(slots / splitSlots(slots));
/** Partials and what the merge reads again lie in L2; written through once. */
const partialBytes = (shape) => blocksOf(shape) * shape.rows * (shape.dims + 2) * 4;
const tilesOfWarp = ({ slots }) => Math.min(splitSlots(slots), slots) / kTile / kWarps;

/** Products on tensor cores; f16, head dim 128, keys after RoPE. */
export const attendRotated = {
  source: kSource,
  kernel: "attend_mma_kernel<MmaTraits<__half, 128, false> >",
  launch: (shape) => ({
    blocks: blocksOf(shape),
    threads: 32 * kWarps,
    // A ring of two tiles of K and V for each warp, and the queries in two parts.
    dynamicBytes: kWarps * (2 * 8192 + 900) + 2 * kRows * 256 + 1024,
    bytes: shape.bytes + partialBytes(shape) + (shape.logitBytes ?? 0),
    l2Bytes: shape.l2Bytes ?? 0,
    bytesInFlight: kWarps * 12 * 1024, // one tile or two, of 8 KiB
    dependentLoads: 4 + Math.ceil(shape.slots / splitSlots(shape.slots) / 16),
  }),
  loops: [
    findRun,
    findOwner,
    {
      file: kBlock,
      within: "load_rows",
      text: "for (int m = 0",
      trips: ({ members = 0 }) => members,
    },
    {
      file: kMmaTile,
      within: "load_query_parts",
      text: "for (int row",
      trips: () => kRows / kWarps,
    },
    { file: kMmaTile, within: "rows_seen", text: "for (int row", trips: ({ rows }) => rows },
    { file: kMma, within: "attend_tiles", text: "for (int tile", trips: tilesOfWarp },
    {
      file: kMma,
      within: "store_block_partials",
      text: "for (int row",
      trips: ({ rows }) => rows / kWarps,
    },
    {
      file: kMma,
      within: "store_block_partials",
      text: "for (int dim",
      trips: () => 1,
    },
    {
      file: kMerge,
      within: "finish_block",
      text: "for (int row = 0",
      trips: ({ rows }) => rows,
      isOptional: true,
    },
  ],
  parts: [
    // The merge is the last block's: counted as a chain of loads, not as instructions of all blocks.
    { file: kMerge, within: "weigh_partials" },
    { file: kMerge, within: "merged_four" },
    { file: kMerge, within: "merge_row" },
    // Every row sees all slots of the tile: no value is looked at for NaN.
    { file: kMmaSums, within: "holds_nonfinite" },
    { file: kMmaSums, within: "add_values" },
    // Maxima seldom rise once a few tiles are done.
    {
      file: kMmaSums,
      within: "weigh_tile",
      from: "sums.acc[n][i] *= rescale[i / 2]",
      times: () => 0.25,
    },
    ...neverTurned,
  ],
};

export const attendScore = {
  source: kSource,
  kernel: "attend_score_kernel",
  launch: ({ heads, rows, slots, scoreRows, logitBytes }) => ({
    blocks: heads * Math.ceil(slots / 128),
    threads: 128,
    // Sums are read and written; logits come from L2 where they fit.
    bytes: heads * scoreRows * slots * 8 + (logitBytes > 40e6 ? logitBytes : 0),
    l2Bytes: logitBytes,
    dependentLoads: 4 + Math.ceil(rows / 4),
  }),
  loops: [
    {
      file: kScores,
      within: "attend_score_kernel",
      text: "for (int i",
      trips: () => 1,
    },
    {
      file: kScores,
      within: "column_sum",
      text: "for (int row",
      trips: ({ rows }) => rows,
      unit: ["MUFU", 1],
      isWhole: true,
    },
    findOwner,
  ],
};
