/** pool_scores: one-dimensional pooling of score rows. */
import { type AsyncOptions, runJob } from "../jobs.js";
import { native } from "../native.js";
import type { Tensor } from "../tensor.js";
/** Parameters of {@link poolScores}. */
export interface PoolScoresParams {
  /** `[rows, >= length]` f32. */
  readonly in: Tensor;
  /** As `in`; memory of its own. */
  readonly out: Tensor;
  /** Elements of each row, or one number for all. */
  readonly lengths: readonly number[] | Int32Array | number;
  /** Width of the window, odd; 1 copies. */
  readonly kernel: number;
  readonly kind: "mean" | "max";
  /** The mean divides by the kernel (zero padding counts) or by the elements inside; default "kernel". */
  readonly divisor?: "kernel" | "valid" | undefined;
}

/**
 * `out[r, i]` is the mean or maximum of `in[r, j]` over `|j - i| <= kernel / 2` inside the row. Bitwise equal on
 * every backend.
 *
 * @source SnapKV (arXiv 2404.14469)
 *
 * @throws {SpindleKVError} ERR_SPINDLEKV_ARGUMENT when a tensor's dtype, shape or strides or an option is wrong,
 *   ERR_SPINDLEKV_UNSUPPORTED when the backend has no kernel for it, ERR_SPINDLEKV_WRONG_DEVICE when the tensors
 *   are not on one device, ERR_SPINDLEKV_DISPOSED when one of them or the device is disposed,
 *   ERR_SPINDLEKV_OUT_OF_MEMORY when there is no room for the workspace
 * @example
 * ```ts
 * poolScores({ in: scores, out: pooled, lengths: [1000], kernel: 7, kind: "max" });
 * ```
 */
export function poolScores(params: PoolScoresParams): void {
  native().poolScores(params);
}

/**
 * {@link poolScores} off the event loop; resolves when the device is done. Argument errors reject.
 *
 * @throws {SpindleKVError} as {@link poolScores}, and ERR_SPINDLEKV_ABORTED when `options.signal` aborted it: what was
 *   written until then means nothing
 */
export function poolScoresAsync(params: PoolScoresParams, options?: AsyncOptions): Promise<void> {
  return runJob(options, (token) => native().poolScoresAsync(params, token));
}
