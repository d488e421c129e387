// attend: blocks over splits of the slots of a head, whose last one merges; then column sums where asked for.
import { findRun, neverNormStyle, neverTurned } from "./keys.mjs";

const kSource = "cuda/attend/attend.cu";
const kSplit = "cuda/attend/attend.cuh";
const kMerge = "cuda/attend/merge.cuh";
const kBlock = "cuda/attend/block.cuh";
const kTable = 128; // slots whose attributes a block holds at once
const kTile = 32;

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
const isTurned = ({ isTurned: yes }) => (yes ? 1 : 0);

/** What every attend kernel does around its tiles. */
const commonLoops = [
  findRun,
  {
    file: kBlock,
    within: "find_owner",
    text: "while (width > 1)",
    trips: ({ heads }) => Math.ceil(Math.log2(heads) / 5),
  },
  {
    file: kBlock,
    within: "load_rows",
    text: "for (int m = 0",
    trips: ({ members = 0 }) => members,
  },
  {
    file: kMerge,
    within: "finish_block",
    text: "for (int row = 0",
    trips: ({ rows }) => rows,
    isOptional: true,
  },
];
/** The merge is the last block's: counted as a chain of loads, not as instructions of all blocks. */
const merging = [
  { file: kMerge, within: "weigh_partials" },
  { file: kMerge, within: "merged_four" },
  { file: kMerge, within: "merge_row" },
];

const launchOf = (bytesInFlight, threads, dynamicBytes) => (shape) => ({
  blocks: blocksOf(shape),
  threads,
  dynamicBytes,
  bytes: shape.bytes + partialBytes(shape) + (shape.logitBytes ?? 0),
  l2Bytes: shape.l2Bytes ?? 0,
  bytesInFlight,
  dependentLoads: 4 + Math.ceil(shape.slots / splitSlots(shape.slots) / 8),
});

/** Products by FFMA; f16, head dim 128. Keys before RoPE turn while they are read. */
export const attendSplit = {
  source: kSource,
  kernel: "attend_split_kernel<AttendTraits<__half, 16, 1> >",
  // Two stages of keys and values of 8 KiB each; one is under way while the other is used.
  launch: launchOf(16 * 1024, 128, 54 * 1024),
  loops: [
    ...commonLoops,
    {
      file: kSplit,
      within: "attend_split_kernel",
      text: "for (int done",
      trips: ({ slots }) => Math.max(1, splitSlots(slots) / kTable),
    },
    {
      file: kSplit,
      within: "attend_split_kernel",
      text: "for (int tile",
      trips: ({ slots }) => Math.min(kTable, splitSlots(slots)) / kTile,
    },
    {
      file: kSplit,
      within: "load_slots",
      text: "for (int slot",
      trips: ({ slots }) => Math.min(kTable, splitSlots(slots)) / 128,
    },
    { file: kSplit, within: "load_slots", text: "for (int row", trips: ({ rows }) => rows },
    { file: kSplit, within: "load_queries", text: "for (int row", trips: ({ rows }) => rows / 4 },
    { file: kSplit, within: "load_queries", text: "for (int dim", trips: () => 4 },
    {
      file: kSplit,
      within: "fetch_tile",
      text: "for (int word",
      trips: () => 4,
      unit: ["LDGSTS", 2],
    },
    {
      file: kSplit,
      within: "score_tile",
      text: "for (int chunk",
      trips: ({ rows }) => Math.ceil(rows / 4),
    },
    {
      file: kSplit,
      within: "accumulate_tile",
      text: "for (int slot",
      trips: ({ rows }) => (kTile / 8) * Math.min(4, Math.ceil(rows / 4)),
      unit: ["FFMA", 32],
    },
    { file: kSplit, within: "store_partials", text: "for (int row", trips: ({ rows }) => rows / 4 },
    { file: kSplit, within: "store_partials", text: "for (int dim", trips: () => 4 },
    {
      file: kSplit,
      within: "store_partials",
      text: "for (int warp",
      trips: () => 4,
      unit: ["LDS.32", 1],
    },
  ],
  parts: [
    ...merging,
    ...neverNormStyle,
    ...neverTurned.map((part) => ({ ...part, times: isTurned })),
    { file: kSplit, within: "store_hidden" },
    // Four rows of a warp are unrolled; of fewer the others are skipped.
    { file: kSplit, within: "weigh_row", times: ({ rows }) => rows / 16 },
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
    { file: kMerge, within: "attend_score_kernel", text: "for (int g", trips: ({ rows }) => rows },
    {
      file: kMerge,
      within: "column_sum",
      text: "for (int query",
      trips: () => 1,
      unit: ["MUFU", 2],
    },
    {
      file: kBlock,
      within: "find_owner",
      text: "while (width > 1)",
      trips: ({ heads }) => Math.ceil(Math.log2(heads) / 5),
    },
  ],
};
