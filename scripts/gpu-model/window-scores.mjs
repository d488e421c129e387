// window_scores: a pass that finds the maximum and sum of each row, their merge, and one that adds up the columns.
import { findRun, neverTurned } from "./keys.mjs";

const kSource = "cuda/window_scores/window_scores.cu";
const kScores = "cuda/window_scores/window_scores.cuh";
const kLogits = "cuda/window_scores/logits.cuh";
const kSlots = 64; // of a block
const kRows = 32; // of a tile

const slotBlocks = ({ slots }) => Math.ceil(slots / kSlots);
const keyBytes = ({ kvHeads, slots, dims }) => kvHeads * slots * dims * 2;
/** A tile of logits: pieces of 32 dims; a thread owns 4 by 4 of 64 slots by 32 rows. */
const tileLoops = [
  { file: kLogits, within: "logit_tile", text: "for (int first", trips: ({ dims }) => dims / 32 },
  {
    file: kLogits,
    within: "load_key_piece",
    text: "for (int vec",
    trips: () => 2,
    unit: ["STS.32", 8],
  },
  { file: kLogits, within: "load_query_piece", text: "for (int row", trips: () => kRows / 4 },
  {
    file: kLogits,
    within: "dot_piece",
    text: "for (int d",
    trips: () => 32,
    unit: ["FFMA", 16],
    isWhole: true,
  },
  findRun,
];
/** Of 32 threads 16 read different keys, of the queries two: not four cycles but two, and one. */
const cycles = { "LDS.128": 1.5 };

export const windowRows = {
  source: kSource,
  kernel: "window_rows_kernel<__half>",
  launch: (shape) => ({
    blocks: slotBlocks(shape) * shape.kvHeads * Math.ceil((shape.group * shape.window) / kRows),
    threads: 128,
    bytes: keyBytes(shape), // once: the other tiles of rows find the keys in L2
  }),
  loops: [
    ...tileLoops,
    { file: kScores, within: "window_rows_kernel", text: "for (int row", trips: () => kRows / 4 },
  ],
  parts: neverTurned,
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

export const windowColumns = {
  source: kSource,
  kernel: "window_columns_kernel<__half>",
  launch: (shape) => ({
    blocks: slotBlocks(shape) * shape.kvHeads,
    threads: 128,
    bytes: keyBytes(shape) + shape.kvHeads * shape.group * shape.slots * 4,
  }),
  loops: [
    ...tileLoops,
    {
      file: kScores,
      within: "window_columns_kernel",
      text: "for (int first_row",
      trips: ({ group, window }) => (group * window) / kRows,
    },
    { file: kScores, within: "normalise_tile", text: "for (int row", trips: () => kRows / 4 },
    {
      file: kScores,
      within: "normalise_tile",
      text: "for (int slot",
      trips: () => 2,
      isOptional: true,
    },
    {
      file: kScores,
      within: "window_columns_kernel",
      text: "for (int row = 0",
      trips: () => kRows,
    },
  ],
  // No entropy is asked for.
  parts: [
    ...neverTurned,
    {
      file: kScores,
      within: "window_columns_kernel",
      from: "if (slot < WindowTraits::kSlots) slot_entropy",
      to: "args.entropy_parts[head",
    },
  ],
  cycles,
};
