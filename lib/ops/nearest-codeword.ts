/** nearest_codeword: which codeword is most similar. */
import { type AsyncOptions, runJob } from "../jobs.js";
import { native } from "../native.js";
import type { Tensor } from "../tensor.js";
/** Rows and the codewords they are compared with. */
export interface NearestProblem {
  /** `[n, headDim]`. */
  readonly x: Tensor;
  /** `[codewords, headDim]` dtype of x. */
  readonly codewords: Tensor;
  /** `[n]` i32 out; -1 where there is none. */
  readonly index: Tensor;
  /** `[n]` f32 out: the product. */
  readonly score?: Tensor | undefined;
  /** `[n]` f32 out: norms of the rows. */
  readonly norm?: Tensor | undefined;
}

/** Parameters of {@link nearestCodeword}. */
export interface NearestCodewordParams {
  readonly problems: readonly NearestProblem[];
  /** Rows are divided by their norms first; default true. */
  readonly normalize?: boolean | undefined;
}

/**
 * For each row the codeword with the largest product; equal products: the smaller index. Bitwise equal on every
 * backend.
 *
 * @throws {SpindleKVError} ERR_SPINDLEKV_ARGUMENT when a tensor's dtype, shape or strides or an option is wrong,
 *   ERR_SPINDLEKV_UNSUPPORTED when the backend has no kernel for it, ERR_SPINDLEKV_WRONG_DEVICE when the tensors
 *   are not on one device, ERR_SPINDLEKV_DISPOSED when one of them or the device is disposed,
 *   ERR_SPINDLEKV_OUT_OF_MEMORY when there is no room for the workspace
 * @example
 * ```ts
 * nearestCodeword({ problems: [{ x, codewords, index, score }] });
 * ```
 */
export function nearestCodeword(params: NearestCodewordParams): void {
  native().nearestCodeword(params);
}

/**
 * {@link nearestCodeword} off the event loop; resolves when the device is done. Argument errors reject.
 *
 * @throws {SpindleKVError} as {@link nearestCodeword}, and ERR_SPINDLEKV_ABORTED when `options.signal` aborted it: what was
 *   written until then means nothing
 */
export function nearestCodewordAsync(
  params: NearestCodewordParams,
  options?: AsyncOptions,
): Promise<void> {
  return runJob(options, (token) => native().nearestCodewordAsync(params, token));
}
