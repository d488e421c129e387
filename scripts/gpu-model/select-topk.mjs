// select_topk: a block a row finds the cut by three counts of digits, then writes what is above it.
const kSource = "cuda/select_topk/select_topk.cu";
const kCut = "cuda/select_topk/cut.cuh";
const kThreads = 512;
const kL2Bytes = 50e6;

/** Bytes that reading the rows again costs: nothing while all of them fit in L2 beside each other. */
const again = ({ rows, columns }) => (rows * columns * 4 > 0.8 * kL2Bytes ? rows * columns * 4 : 0);

export const selectCut = {
  source: kSource,
  kernel: "select_cut_kernel",
  launch: (shape) => ({
    blocks: shape.rows,
    threads: kThreads,
    bytes: shape.rows * shape.columns * 4 + 2 * again(shape),
    bytesInFlight: kThreads * 4 * 4, // four loads of 4 bytes a thread, by the unrolled loop
  }),
  loops: [
    { file: kCut, within: "find_cut", text: "for (int digit", trips: () => 3 },
    { file: kCut, within: "find_cut", text: "for (int bin", trips: () => 4, unit: ["STS.32", 1] },
    {
      file: kCut,
      within: "count_keys",
      text: "for (int64_t slot",
      trips: ({ columns }) => columns / kThreads,
      unit: ["LDG.32", 1],
    },
    { file: kCut, within: "find_bin", text: "while (above", trips: () => 1 },
    // Scores that differ: no ties straddle the cut.
    { file: kCut, within: "find_tie_end", text: "for (int64_t chunk", trips: () => 0 },
    { file: kCut, within: "find_tie_end", text: "for (int64_t slot", trips: () => 0 },
  ],
};

export const selectWrite = {
  source: kSource,
  kernel: "select_write_kernel",
  launch: (shape) => ({
    blocks: shape.rows,
    threads: kThreads,
    bytes: again(shape) + shape.rows * shape.k * 4,
    bytesInFlight: kThreads * 4 * 4,
  }),
  loops: [
    {
      file: "cuda/select_topk/select_topk.cuh",
      within: "select_write_kernel",
      text: "for (int64_t chunk",
      trips: ({ columns }) => columns / (kThreads * 4),
    },
    // Rounds of four rows of a union; a single row takes the code behind the loop.
    {
      file: "cuda/select_topk/select_topk.cuh",
      within: "selected_by",
      text: "for (int g",
      trips: () => 0,
    },
  ],
  // Behind the loop stand copies for one, two and three rows, of which one row takes the first.
  parts: [{ file: "cuda/select_topk/select_topk.cuh", within: "selected_by", times: () => 1 / 3 }],
};
