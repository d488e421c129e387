// attend over runs of references, keys after RoPE: a product for each key codeword, values by tiles of codewords.
// f16, head dim 128, up to 4 rows; every head has one run.
import { findOwner } from "./keys.mjs";

const kSource = "cuda/attend/codebook.cu";
const kCommon = "cuda/attend/codebook_block.cuh";
const kProducts = "cuda/attend/codebook_products.cuh";
const kValues = "cuda/attend/codebook_values.cuh";
const kMerge = "cuda/attend/merge.cuh";
const kBlock = "cuda/attend/block.cuh";
const kSplit = 512; // slots of a block that makes logits
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
  text: "for (int i",
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
  kernel: "codebook_gather_kernel",
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
      trips: ({ slots }) => slots / 512,
    },
    {
      file: kValues,
      within: "fill_bins",
      text: "while (waiting",
      trips: ({ codewords }) => (4 * Math.min(kTileWords, codewords)) / codewords,
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
    // The merge is the last block's.
    { file: kMerge, within: "weigh_partials" },
    { file: kMerge, within: "merged_four" },
    { file: kMerge, within: "merge_row" },
  ],
};
