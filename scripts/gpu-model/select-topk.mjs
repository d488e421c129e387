// select_topk: a block a row lists the slots inside a bracket around the cut, finds the cut among them, then writes
// what is above it.
const kSource = "cuda/select_topk/select_topk.cu";
const kCut = "cuda/select_topk/cut.cuh";
const kBracket = "cuda/select_topk/bracket.cuh";
const kWrite = "cuda/select_topk/select_topk.cuh";
const kRow = "cuda/select_topk/row.cuh";
const kThreads = 256;
const kChunk = 16 * kThreads;
const kSamples = 2048;
const kListBytes = 8192 * 8 + 8;
const kL2Bytes = 50e6;

/** Bytes that reading the rows again costs: nothing while all of them fit in L2 beside each other. */
const again = ({ rows, columns }) => (rows * columns * 4 > 0.8 * kL2Bytes ? rows * columns * 4 : 0);
/** Slots inside the bracket: four deviations of the sample's rank on both sides. */
const listed = ({ columns, k }) =>
  (8 * Math.sqrt(kSamples * (k / columns) * (1 - k / columns)) * columns) / kSamples;
/** Four loads of 16 bytes a thread. */
const bytesInFlight = kThreads * 4 * 16;
const chunks = ({ columns }) => columns / kChunk;
/** Aligned rows whose slots all compete, but for the two warps at their ends. */
const neverPartial = [
  // Not the load itself: what both ways go on with stands there too.
  { file: kRow, within: "load_scores", from: "const int slot =", to: "const bool is_there" },
  { file: kRow, within: "load_scores", from: "competes |=" },
];

export const selectCut = {
  source: kSource,
  kernel: "select_cut_kernel",
  launch: (shape) => ({
    blocks: shape.rows,
    threads: kThreads,
    dynamicBytes: kListBytes,
    bytes: shape.rows * shape.columns * 4,
    bytesInFlight,
  }),
  loops: [
    {
      file: kBracket,
      within: "list_samples",
      text: "for (int i",
      trips: () => kSamples / kThreads,
      unit: ["STS.64", 1],
    },
    // The bracket's two ends, and the cut: of the three one lists the row, and one takes three digits.
    { file: kBracket, within: "find_row_cut", text: "while (search", trips: () => 3 },
    {
      file: kBracket,
      within: "list_bracket",
      text: "for (int64_t chunk",
      trips: (shape) => chunks(shape) / 3,
    },
    {
      file: kBracket,
      within: "find_row_cut",
      text: "for (int i",
      trips: (shape) => (2 * kSamples + listed(shape)) / kThreads / 3,
      unit: ["LDS.64", 1],
    },
    { file: kCut, within: "find_cut", text: "for (int digit", trips: () => 7 / 3 },
    { file: kCut, within: "find_cut", text: "for (int bin", trips: () => 8, unit: ["STS.32", 1] },
    { file: kCut, within: "find_bin", text: "while (above", trips: () => 1 },
  ],
  // Scores that differ: no ties straddle the cut, and no bracket misses it.
  parts: [
    ...neverPartial,
    { file: kBracket, within: "items_down_to_nan" },
    { file: kCut, within: "count_keys" },
    { file: kCut, within: "find_tie_end" },
  ],
};

export const selectWrite = {
  source: kSource,
  kernel: "select_write_kernel<false>",
  launch: (shape) => ({
    blocks: shape.rows,
    threads: kThreads,
    bytes: again(shape) + shape.rows * shape.k * 4,
    bytesInFlight,
  }),
  loops: [
    { file: kWrite, within: "select_write_kernel", text: "for (int64_t next", trips: chunks },
    // No masks are asked for.
    { file: kWrite, within: "select_write_kernel", text: "for (int64_t i", trips: () => 0 },
  ],
  parts: [
    ...neverPartial,
    { file: kWrite, within: "items_taken_to_nan" },
    { file: kWrite, within: "protected_items", from: "const int slot", to: "bits |= 1u" },
  ],
};
