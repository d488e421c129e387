// window_scores: the queries turned, a pass that finds the maximum and sum of each row, their merge, and one that adds
// up the columns. For more than 64 rows of a KV head: eight rows a thread.
import { findRun, neverTurned, neverUnaligned } from "./keys.mjs";

const kSource = "cuda/window_scores/window_scores.cu";
const kScores = "cuda/window_scores/window_scores.cuh";
const kLogits = "cuda/window_scores/logits.cuh";
const kSlots = 64; // of a block
const kRows = 128; // of a tile
const kThreads = 128;

const slotBlocks = ({ slots }) => Math.ceil(slots / kSlots);
const rowTiles = ({ group, window }) => Math.ceil((group * window) / kRows);
const keyBytes = ({ kvHeads, slots, dims }) => kvHeads * slots * dims * 2;
/** Every tile reads its keys and its turned queries. */
const tileBytes = (shape) =>
  slotBlocks(shape) * shape.kvHeads * rowTiles(shape) * shape.dims * (kSlots * 2 + kRows * 4);
/** A tile of logits: pieces of 16 dims; a thread owns 8 by 8 of 64 slots by 128 rows. */
const tileLoops = [
  { file: kLogits, within: "logit_tile", text: "for (int first", trips: ({ dims }) => dims / 16 },
  {
    file: kLogits,
    within: "dot_piece",
    text: "for (int first",
    trips: () => 2,
    unit: ["FFMA", 8 * 64],
  },
  findRun,
];
/** Nothing is hidden, and every tile is full. */
const neverHidden = [
  {
    file: kLogits,
    within: "logit_tile",
    from: "const int row = own_first_row",
    to: "++group_head;",
  },
];
/** Eight threads of a row and four of a slot read the same words: 128 bytes a warp at most. */
const cycles = { "LDS.128": 1 };

export const windowQueries = {
  source: kSource,
  kernel: "window_queries_kernel<8>",
  launch: (shape) => ({
    blocks: Math.ceil((rowTiles(shape) * kRows * shape.dims) / 8 / kThreads) * shape.kvHeads,
    threads: kThreads,
    bytes: shape.kvHeads * rowTiles(shape) * kRows * shape.dims * 6,
  }),
  loops: [],
  parts: [...neverTurned, ...neverUnaligned],
};

export const windowRows = {
  source: kSource,
  kernel: "window_rows_kernel<__half, 8>",
  launch: (shape) => ({
    blocks: slotBlocks(shape) * shape.kvHeads * rowTiles(shape),
    threads: kThreads,
    bytes: keyBytes(shape), // once: the other tiles of rows find the keys in L2
    l2Bytes: tileBytes(shape),
  }),
  loops: tileLoops,
  parts: [...neverTurned, ...neverHidden],
  cycles,
};

export const windowMerge = {
  source: kSource,
  kernel: "window_merge_kernel",
  launch: (shape) => ({
    blocks: Math.ceil((shape.kvHeads * shape.group * shape.window) / 4),
    threads: 128,
    bytes: shape.kvHeads * shape.group * shape.window * slotBlocks(shape) * 8,
    dependentLoads: (2 * slotBlocks(shape)) / 32 / 4,
  }),
  loops: [
    {
      file: kScores,
      within: "window_merge_kernel",
      text: "for (int block = lane_id()",
      trips: (shape) => slotBlocks(shape) / 32,
    },
    {
      file: kScores,
      within: "window_merge_kernel",
      text: "for (int first = 0",
      trips: (shape) => slotBlocks(shape) / 32,
    },
    {
      file: kScores,
      within: "window_merge_kernel",
      text: "for (int lane = 0",
      trips: () => 32,
      unit: ["SHFL", 2],
    },
  ],
};

/** Half of the warps add sums, half squares. */
const addRows = (within) => ({
  file: kScores,
  within,
  text: "for (int row",
  trips: ({ window }) => Math.min(window, kRows) / 2,
  unit: ["LDS.32", 1],
});

export const windowColumns = {
  source: kSource,
  kernel: "window_columns_kernel<__half, 8>",
  launch: (shape) => ({
    blocks: slotBlocks(shape) * shape.kvHeads,
    threads: kThreads,
    bytes: keyBytes(shape) + shape.kvHeads * shape.group * shape.slots * 4,
    l2Bytes: tileBytes(shape),
  }),
  loops: [
    ...tileLoops,
    { file: kScores, within: "window_columns_kernel", text: "for (int index", trips: rowTiles },
    {
      file: kScores,
      within: "window_columns_kernel",
      text: "while (row < tile.rows)",
      trips: ({ window }) => Math.max(1, kRows / window),
    },
    addRows("add_sums"),
    addRows("add_squares"),
  ],
  // No entropy is asked for, and queries count alike.
  parts: [
    ...neverTurned,
    ...neverHidden,
    { file: kScores, within: "add_weighted_sums" },
    // Not its `for`: what follows the loop stands there too.
    { file: kScores, within: "add_entropy", from: "const float p", to: "column.entropy =" },
    {
      file: kScores,
      within: "window_columns_kernel",
      from: "if (has_squares) slot_entropy",
      to: "args.entropy_parts[head",
    },
  ],
  cycles,
};
