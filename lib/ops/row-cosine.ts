/** row_cosine: how alike paired rows are. */
import { type AsyncOptions, runJob } from "../jobs.js";
import { native } from "../native.js";
import type { Tensor } from "../tensor.js";
/** Parameters of {@link rowCosine}. Every output may be left out. */
export interface RowCosineParams {
  /** `[rows, width]` f32, f16 or bf16, such as the residual stream before a layer. */
  readonly a: Tensor;
  /** As `a`; may be the same. */
  readonly b: Tensor;
  /** `[rows]` f32 out: the cosine of each pair, 0 where a row is zero. */
  readonly cosines?: Tensor | undefined;
  /** `[1]` f32: the sum of the cosines is added, so that the chunks of a prompt add up. */
  readonly sum?: Tensor | undefined;
  /** `[1]` i32: the number of cosines that are NaN or infinite is added. */
  readonly nonfinite?: Tensor | undefined;
}

/**
 * Cosines of paired rows of two matrices, and their sum. Bitwise equal on every backend.
 *
 * @source SqueezeAttention (arXiv 2404.04793), BaKlaVa (2502.13176)
 *
 * @throws {SpindleKVError} ERR_SPINDLEKV_ARGUMENT when a tensor's dtype, shape or strides or an option is wrong,
 *   ERR_SPINDLEKV_UNSUPPORTED when the backend has no kernel for it, ERR_SPINDLEKV_WRONG_DEVICE when the tensors
 *   are not on one device, ERR_SPINDLEKV_DISPOSED when one of them or the device is disposed,
 *   ERR_SPINDLEKV_OUT_OF_MEMORY when there is no room for the workspace
 * @example
 * ```ts
 * const before = Tensor.zeros(device, "f32", [16, 4096]);
 * const after = Tensor.zeros(device, "f32", [16, 4096]);
 * const sum = Tensor.zeros(device, "f32", [1]);
 * rowCosine({ a: before, b: after, sum });
 * ```
 */
export function rowCosine(params: RowCosineParams): void {
  native().rowCosine(params);
}

/**
 * {@link rowCosine} off the event loop; resolves when the device is done. Argument errors reject.
 *
 * @throws {SpindleKVError} as {@link rowCosine}, and ERR_SPINDLEKV_ABORTED when `options.signal` aborted it: what was
 *   written until then means nothing
 */
export function rowCosineAsync(params: RowCosineParams, options?: AsyncOptions): Promise<void> {
  return runJob(options, (token) => native().rowCosineAsync(params, token));
}
