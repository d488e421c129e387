/** The ops: one file each, with the same names as in core/ops.h. */
export type { AsyncOptions } from "../jobs.js";
export * from "./append-kv.js";
export * from "./attend.js";
export * from "./attend-batch.js";
export * from "./build-codebook.js";
export * from "./compact.js";
export * from "./key-stats.js";
export * from "./nearest-codeword.js";
export * from "./pool-scores.js";
export * from "./reduce-by-label.js";
export * from "./reduce-group.js";
export * from "./rope.js";
export * from "./row-cosine.js";
export * from "./select-topk.js";
export * from "./window-scores.js";
export type { Rope, Run } from "./types.js";
