/** rope: turning rows. */
import { type AsyncOptions, runJob } from "../jobs.js";
import { native } from "../native.js";
import type { Tensor } from "../tensor.js";
import type { Rope } from "./types.js";
/** Parameters of {@link rope}. */
export interface RopeParams {
  /** `[heads, tokens, headDim]`. */
  readonly in: Tensor;
  /** Shape and dtype of in; may be in itself. */
  readonly out: Tensor;
  /** `[tokens]` i32: positions the rows are turned by already. */
  readonly positionsFrom?: Tensor | undefined;
  /** `[tokens]` i32: positions the rows shall be turned by. */
  readonly positionsTo?: Tensor | undefined;
  /** The table reaches the largest difference of positions. */
  readonly rope: Rope;
}

/**
 * Turns rows from one position to another: `positionsTo` alone applies RoPE, `positionsFrom` alone undoes it, both
 * re-rotate. Bitwise equal on every backend.
 *
 * @throws {SpindleKVError} ERR_SPINDLEKV_ARGUMENT when a tensor's dtype, shape or strides or an option is wrong,
 *   ERR_SPINDLEKV_UNSUPPORTED when the backend has no kernel for it, ERR_SPINDLEKV_WRONG_DEVICE when the tensors
 *   are not on one device, ERR_SPINDLEKV_DISPOSED when one of them or the device is disposed,
 *   ERR_SPINDLEKV_OUT_OF_MEMORY when there is no room for the workspace
 * @example
 * ```ts
 * rope({ in: k, out: k, positionsTo: positions, rope: { table, style: "neox" } });
 * ```
 */
export function rope(params: RopeParams): void {
  native().rope(params);
}

/**
 * {@link rope} off the event loop; resolves when the device is done. Argument errors reject.
 *
 * @throws {SpindleKVError} as {@link rope}, and ERR_SPINDLEKV_ABORTED when `options.signal` aborted it: what was
 *   written until then means nothing
 */
export function ropeAsync(params: RopeParams, options?: AsyncOptions): Promise<void> {
  return runJob(options, (token) => native().ropeAsync(params, token));
}
