/** The speeds asked for, in the order in which they were: which results answer them, and those of a GPU in words. */

export interface Row {
  readonly title: string;
  /** Jobs of the suite `cpu` whose goals answer it. */
  readonly jobs: readonly string[];
}

export const cpuRows: readonly Row[] = [
  {
    title: "full decode f16, share of the read bandwidth; accumulation fused into it",
    jobs: ["decode-8k", "decode-32k", "decode-128k"],
  },
  { title: "decode against torch", jobs: ["torch-8k", "torch-32k"] },
  { title: "SpindleKV against own full decode", jobs: ["spindle-32k", "spindle-cache-32k"] },
  { title: "eviction of one layer against torch", jobs: ["eviction-16k"] },
  { title: "codebook build", jobs: ["codebook-8k"] },
  { title: "k-means iteration against scikit-learn", jobs: ["kmeans"] },
  { title: "sequences that share a prefix against separate calls", jobs: ["shared-prefix"] },
  { title: "overhead of a call from TypeScript", jobs: ["call-overhead"] },
];

/** What a GPU is asked for; shown until there are results of one. */
export const gpuRows: readonly (readonly [what: string, asked: string])[] = [
  ["full decode, >= 64 MB per launch, share of the copy bandwidth", ">= 0.85"],
  ["decode, batch 1, 16-34 MB a layer, time over the floor", "<= 2.0"],
  ["fused accumulation, time over plain", "<= 1.10"],
  ["SpindleKV keep 0.2, 32k, batch 8, times faster than own full decode", ">= 3.5"],
  ["SpindleKV keep 0.2, 32k, batch 8, times faster than torch SDPA", ">= 4"],
  ["window scores, W = 64, 32k, time over the floor", "<= 2"],
  ["window scores, W = 64, 128k, time over the floor", "<= 2"],
  ["top-k, k = 20 % of n, 256 rows x 32k, time over the one-pass floor", "<= 3"],
  ["top-k, k = 20 % of n, 256 rows x 32k, times faster than torch.topk", ">= 8"],
  ["compaction, all layers, share of the copy bandwidth", ">= 0.8"],
  ["k-means iteration, 512 problems, 32k, C = 1024, time over the flop floor", "<= 2.5"],
  ["16 sequences sharing a 16k prefix, 512 own tokens, times faster than 16 attends", ">= 5"],
];
