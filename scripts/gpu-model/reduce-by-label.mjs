// reduce_by_label: two passes of a sort by 8 bits (count, scan, scatter), offsets, sums; all problems in each launch.
const kSource = "cuda/reduce_by_label/reduce_by_label.cu";
const kSort = "cuda/reduce_by_label/sort.cuh";
const kSums = "cuda/reduce_by_label/reduce_by_label.cuh";
const kTile = 2048;
const tiles = ({ rows }) => Math.ceil(rows / kTile);
const blocks = (shape) => shape.problems * tiles(shape);

export const labelCount = {
  source: kSource,
  kernel: "label_count_kernel",
  launch: (shape) => ({
    blocks: blocks(shape),
    threads: 256,
    bytes: 4 * shape.problems * shape.rows,
  }),
  loops: [
    { file: kSort, within: "label_count_kernel", text: "for (int i", trips: () => kTile / 256 },
  ],
};

export const labelScan = {
  source: kSource,
  kernel: "label_scan_kernel",
  launch: (shape) => ({
    blocks: shape.problems,
    threads: 1024,
    bytes: 0,
    dependentLoads: (256 * tiles(shape)) / 1024,
  }),
  loops: [
    {
      file: kSort,
      within: "label_scan_kernel",
      text: "for (int64_t first",
      trips: (shape) => (256 * tiles(shape)) / 1024,
    },
  ],
};

export const labelScatter = {
  source: kSource,
  kernel: "label_scatter_kernel",
  launch: (shape) => ({
    blocks: blocks(shape),
    threads: 256,
    bytes: 8 * shape.problems * shape.rows,
    dependentLoads: kTile / 256,
  }),
  loops: [
    {
      file: kSort,
      within: "label_scatter_kernel",
      text: "for (int round",
      trips: () => kTile / 256,
    },
  ],
};

export const labelOffsets = {
  source: kSource,
  kernel: "label_offsets_kernel",
  launch: ({ problems, codewords }) => ({
    blocks: problems * Math.ceil((codewords + 1) / 128),
    threads: 128,
    dependentLoads: 32,
  }),
  loops: [
    {
      file: kSums,
      within: "first_of_label",
      text: "while (low",
      trips: ({ rows }) => Math.log2(rows),
    },
  ],
};

export const labelSums = {
  source: kSource,
  kernel: "label_sums_kernel<__half>",
  launch: ({ problems, rows, codewords, dims }) => ({
    blocks: problems * Math.ceil((codewords * dims) / 128),
    threads: 128,
    bytes: problems * rows * dims * 2,
    dependentLoads: (2 * rows) / codewords / 4,
  }),
  loops: [
    {
      file: kSums,
      within: "label_sums_kernel",
      text: "for (; at + kAhead",
      trips: ({ rows, codewords }) => rows / codewords / 4,
      unit: ["FFMA", 4],
    },
    {
      file: kSums,
      within: "label_sums_kernel",
      text: "for (; at < end",
      trips: () => 1.5,
      unit: ["FFMA", 1],
    },
  ],
};
