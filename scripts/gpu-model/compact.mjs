// compact: a block moves 64 slots of an item.
const kKernel = "cuda/compact/compact.cuh";
const kSlots = 64;

export const compact = {
  source: "cuda/compact/compact.cu",
  kernel: "compact_kernel",
  launch: ({ heads, kept, dims }) => ({
    blocks: heads * Math.ceil(kept / kSlots),
    threads: 256,
    // K and V rows and positions in and out, and the index. A position costs a sector of 32 bytes to read.
    bytes: heads * kept * (2 * 2 * 2 * dims + 32 + 4 + 4),
    bytesInFlight: 256 * 2 * 16,
  }),
  loops: [
    {
      file: kKernel,
      within: "find_work",
      text: "while (high - low > 1)",
      trips: ({ heads }) => Math.log2(heads),
    },
    {
      file: kKernel,
      within: "compact_kernel",
      text: "for (int word",
      trips: ({ dims }) => (kSlots * dims) / 8 / 256,
      unit: ["LDG.128", 2],
    },
  ],
};
