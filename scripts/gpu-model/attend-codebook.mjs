// attend over runs of references: a product for each key codeword, or keys turned by blocks of 64 positions; values by
// tiles of codewords. f16, head dim 128, up to 4 rows; every head has one run, of slots at even distances.
import { findOwner } from "./keys.mjs";

const kSource = "cuda/attend/codebook.cu";
const kCommon = "cuda/attend/codebook_block.cuh";
const kTurned = "cuda/attend/codebook_turned.cuh";
const kProducts = "cuda/attend/codebook_products.cuh";
const kValues = "cuda/attend/codebook_values.cuh";
const kMerge = "cuda/attend/merge.cuh";
const kBlock = "cuda/attend/block.cuh";
const kSplit = 512; // slots of a block that makes logits
const kTurnedSplit = 1024; // with keys before RoPE
const kTileWords = 512; // value codewords of a block
const kBinFloats = 2048;
const kDotBytes = 16; // of a slot: 4 rows

const splitsOf = ({ slots }) => Math.ceil(slots / kSplit);
const tilesOf = ({ codewords }) => Math.ceil(codewords / kTileWords);
const codewordBytes = ({ heads, codewords, dims }) => heads * codewords * dims * 2;

const rowsOfBlock = (warps) => [
  findOwner,
  {
    file: kBlock,
    within: "load_rows",
    text: "for (int m = 0",
    trips: () => 0,
    isOptional: true,
  },
  {
    file: kBlock,
    within: "load_queries",
    text: "for (int row",
    trips: ({ rows }) => rows / warps,
    isOptional: true,
  },
  {
    file: kBlock,
    within: "load_queries",
    text: "for (int dim",
    trips: ({ dims }) => dims / 32,
    isOptional: true,
  },
];
const finishRows = (threads) => ({
  file: kCommon,
  within: "finish_four_rows",
  text: "for (int slot",
  trips: () => kSplit / threads,
});

/** Keys after RoPE: a product for each codeword. */
export const codebookProducts = {
  source: kSource,
  kernel: "codebook_products_kernel<CodebookTraits<__half, 16> >",
  launch: (shape) => ({
    blocks: shape.heads * Math.ceil(shape.codewords / 128),
    threads: 128,
    dynamicBytes: 16 * 512 + 16 * 16 + 16,
    bytes: codewordBytes(shape) + shape.heads * shape.codewords * 16,
    dependentLoads: 5,
  }),
  loops: [
    ...rowsOfBlock(4),
    { file: kProducts, within: "codebook_products_kernel", text: "for (int row", trips: () => 1 },
    { file: kProducts, within: "multiply_words", text: "for (int at", trips: () => 128 / 32 },
  ],
};

export const codebookGather = {
  source: kSource,
  kernel: "codebook_gather_kernel<__half>",
  launch: (shape) => ({
    blocks: shape.heads * splitsOf(shape),
    threads: 128,
    bytes: shape.heads * shape.slots * (2 + 2 + 4 + kDotBytes),
    l2Bytes: shape.heads * shape.slots * 32,
    dependentLoads: 5,
  }),
  loops: [
    ...rowsOfBlock(4),
    { file: kProducts, within: "codebook_gather_kernel", text: "for (int row", trips: () => 1 },
    finishRows(128),
  ],
};

/**
 * How the slots of a window of 32 fall into blocks of 64 positions, and those of a block into groups of 16; and the
 * share of these blocks that turns the queries, which stay as they are from one window to the next.
 */
function turnedGroups({ slots, positions }) {
  const blockOf = (slot) => Math.floor((slot * positions) / slots / 64);
  let [blocks, groups, turns] = [0, 0, 0];
  for (let first = 0, next = 0; first < slots; first = next) {
    while (next < slots && blockOf(next) === blockOf(first) && (next === first || next % 32))
      next++;
    blocks++;
    groups += Math.ceil((next - first) / 16);
    if (first % (kTurnedSplit / 4) === 0 || blockOf(first) !== blockOf(first - 1)) turns++;
  }
  return { ofWindow: (blocks * 32) / slots, ofBlock: groups / blocks, turning: turns / blocks };
}

/** Keys before RoPE: a codeword for each slot. */
export const codebookTurned = {
  source: kSource,
  kernel: "codebook_turned_kernel<TurnedTraits<__half, 128, 4> >",
  launch: (shape) => ({
    blocks: shape.heads * Math.ceil(shape.slots / kTurnedSplit),
    threads: 128,
    // The turns of 64 positions, the table of rows, and for 4 rows the queries and what each warp has of them.
    dynamicBytes: 64 * 512 + 4 * (512 + 4 * (2 * 256 + 128)) + 800,
    bytes:
      codewordBytes(shape) +
      shape.heads * shape.slots * (2 + 2 + 4 + kDotBytes) +
      shape.positions * 512,
    // A codeword for each slot, and the turns of 64 positions for each block.
    l2Bytes: shape.heads * (shape.slots * 256 + Math.ceil(shape.slots / kTurnedSplit) * 64 * 512),
    dependentLoads: 7,
  }),
  loops: [
    findOwner,
    { file: kTurned, within: "load_scaled_queries", text: "for (int row", trips: () => 1 },
    { file: kTurned, within: "load_position_turns", text: "for (int row", trips: () => 64 / 4 },
    {
      file: kTurned,
      within: "codebook_turned_kernel",
      text: "for (int at",
      trips: ({ slots }) => slots / Math.ceil(slots / kTurnedSplit) / 128,
    },
    {
      file: kTurned,
      within: "multiply_window",
      text: "while (done",
      trips: (shape) => turnedGroups(shape).ofWindow,
    },
    {
      file: kTurned,
      within: "multiply_window",
      text: "for (; done < behind",
      trips: (shape) => turnedGroups(shape).ofBlock,
    },
    {
      file: kTurned,
      within: "turn_queries_back",
      text: "for (int row",
      trips: (shape) => turnedGroups(shape).turning,
    },
  ],
  parts: [
    // Pairs are half-split.
    {
      file: kTurned,
      within: "turn_two_pairs",
      from: "const float first = x[4 * two + 2 * i]",
      to: "x[4 * two + 2 * i + 1], c[i], first * s[i]",
    },
    // The head dim is the kernel's.
    { file: kTurned, within: "clear_past_head" },
    {
      file: kTurned,
      within: "turn_queries_back",
      times: (shape) => turnedGroups(shape).turning,
    },
  ],
};

/** The most hits that one of 32 lanes has among its 8 slots, on average, where each hits with a probability. */
function expectedMost(probability) {
  let [most, atMost, term] = [0, 0, (1 - probability) ** 8];
  for (let hits = 0; hits < 8; hits++) {
    atMost += term;
    most += 1 - atMost ** 32;
    term *= ((8 - hits) / (hits + 1)) * (probability / (1 - probability));
  }
  return most;
}

/** Values: every tile goes through the references, and adds the slots that are its own. */
export const codebookValues = {
  source: kSource,
  kernel: "codebook_values_kernel<CodebookTraits<__half, 16> >",
  launch: (shape) => ({
    blocks: shape.heads * tilesOf(shape),
    threads: 128,
    dynamicBytes: 4 * (kBinFloats * 4 + 16 * 32 * 4 + 256 * 8) + 16 * 16 + 16 + 128,
    bytes:
      codewordBytes(shape) +
      shape.heads * (shape.slots * 4 + tilesOf(shape) * shape.rows * (shape.dims + 2) * 4),
    // References once a tile, logits once in sectors of 32 bytes.
    l2Bytes: shape.heads * shape.slots * (2 * tilesOf(shape) + 32),
    dependentLoads: 7,
  }),
  loops: [
    ...rowsOfBlock(4),
    { file: kValues, within: "load_maxima", text: "for (int row", trips: () => 1 },
    {
      file: kValues,
      within: "load_maxima",
      text: "for (int split",
      trips: (shape) => splitsOf(shape) / 32,
    },
    {
      file: kValues,
      within: "codebook_values_kernel",
      text: "for (int i = lane_id()",
      trips: () => kBinFloats / 32,
    },
    {
      file: kValues,
      within: "codebook_values_kernel",
      text: "for (int row = 0; row < book.pitch",
      trips: () => 4,
    },
    {
      file: kValues,
      within: "fill_bins",
      text: "for (int at",
      trips: ({ slots }) => slots / 1024,
    },
    {
      file: kValues,
      within: "fill_bins",
      text: "for (; own != 0",
      trips: ({ codewords }) => expectedMost(Math.min(kTileWords, codewords) / codewords),
    },
    {
      file: kValues,
      within: "fill_bins",
      text: "while (waiting",
      trips: ({ codewords }) => (8 * Math.min(kTileWords, codewords)) / codewords,
    },
    { file: kValues, within: "add_weights", text: "for (int row", trips: () => 1 },
    // Among 32 slots of 512 codewords some two meet.
    { file: kValues, within: "add_weights", text: "for (int i = 0", trips: () => 2 },
    {
      file: kValues,
      within: "gather_bins",
      text: "for (int i",
      trips: () => kBinFloats / 128,
    },
    { file: kValues, within: "gather_bins", text: "for (int row", trips: () => 1 },
    {
      file: kValues,
      within: "codebook_values_kernel",
      text: "for (int row = 0; row < shared.rows.count",
      trips: () => 1,
    },
    { file: kValues, within: "add_words", text: "for (int at", trips: () => kTileWords / 32 },
    {
      file: kValues,
      within: "store_four_rows",
      text: "for (int i",
      trips: ({ rows, dims }) => (rows * dims) / 128,
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
    // References are of 2 bytes and few at an edge.
    { file: kValues, within: "load_long_refs" },
    { file: kValues, within: "load_edge_refs" },
    // The merge is the last block's.
    { file: kMerge, within: "weigh_partials" },
    { file: kMerge, within: "merged_four" },
    { file: kMerge, within: "merge_row" },
  ],
};
