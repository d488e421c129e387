// reduce_by_label: two passes of a sort by 8 bits (count, scan, scatter), offsets, sums. One problem a call.
const kSource = "cuda/reduce_by_label/reduce_by_label.cu";
const kSort = "cuda/reduce_by_label/sort.cuh";
const kSums = "cuda/reduce_by_label/reduce_by_label.cuh";
const kTile = 2048;
const tiles = ({ rows }) => Math.ceil(rows / kTile);

export const labelCount = {
  source: kSource,
  kernel: "label_count_kernel",
  launch: (shape) => ({ blocks: tiles(shape), threads: 256, bytes: 4 * shape.rows }),
  loops: [
    { file: kSort, within: "label_count_kernel", text: "for (int i", trips: () => kTile / 256 },
  ],
};

export const labelScan = {
  source: kSource,
  kernel: "label_scan_kernel",
  launch: (shape) => ({
    blocks: 1,
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
    blocks: tiles(shape),
    threads: 256,
    bytes: 8 * shape.rows,
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
  launch: ({ codewords }) => ({
    blocks: Math.ceil((codewords + 1) / 128),
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
  launch: ({ rows, codewords, dims }) => ({
    blocks: Math.ceil((codewords * dims) / 128),
    threads: 128,
    bytes: rows * dims * 2,
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
