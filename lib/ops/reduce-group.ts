/** reduce_group: scores of a group of query heads -> one row. */
import { type AsyncOptions, runJob } from "../jobs.js";
import { native } from "../native.js";
import type { Tensor } from "../tensor.js";
/** Parameters of {@link reduceGroup}. */
export interface ReduceGroupParams {
  /** `[rows * group, length]` f32. */
  readonly in: Tensor;
  /** `[rows, length]` f32; memory of its own. */
  readonly out: Tensor;
  /** Rows that become one, 1..16. */
  readonly group: number;
  readonly kind: "mean" | "max" | "sum";
}

/**
 * `out[k, i]` reduces `in[k * group + g, i]` over g. Bitwise equal on every backend.
 *
 * @throws {SpindleKVError} ERR_SPINDLEKV_ARGUMENT when a tensor's dtype, shape or strides or an option is wrong,
 *   ERR_SPINDLEKV_UNSUPPORTED when the backend has no kernel for it, ERR_SPINDLEKV_WRONG_DEVICE when the tensors
 *   are not on one device, ERR_SPINDLEKV_DISPOSED when one of them or the device is disposed,
 *   ERR_SPINDLEKV_OUT_OF_MEMORY when there is no room for the workspace
 * @example
 * ```ts
 * reduceGroup({ in: perQueryHead, out: perKvHead, group: 4, kind: "mean" });
 * ```
 */
export function reduceGroup(params: ReduceGroupParams): void {
  native().reduceGroup(params);
}

/**
 * {@link reduceGroup} off the event loop; resolves when the device is done. Argument errors reject.
 *
 * @throws {SpindleKVError} as {@link reduceGroup}, and ERR_SPINDLEKV_ABORTED when `options.signal` aborted it: what was
 *   written until then means nothing
 */
export function reduceGroupAsync(params: ReduceGroupParams, options?: AsyncOptions): Promise<void> {
  return runJob(options, (token) => native().reduceGroupAsync(params, token));
}
