/** compact: kept slots into new memory. */
import { type AsyncOptions, runJob } from "../jobs.js";
import { native } from "../native.js";
import type { Tensor } from "../tensor.js";
import type { Run } from "./types.js";
/** One move of {@link compact}. */
export interface CompactItem {
  readonly src: Run;
  /** Of the same codec, elsewhere; its `slots` is not read. */
  readonly dst: Run;
  /** `[count]` i32, ascending, each inside src (plus indexBase); trusted. */
  readonly indices: Tensor;
  /** `[count]` u16: masks of the moved slots instead of those of src. */
  readonly maskOverride?: Tensor | undefined;
  /** Subtracted from the indices; default 0. */
  readonly indexBase?: number | undefined;
  /** Slot of dst that the first one goes to; default 0. */
  readonly dstSlot?: number | undefined;
}

/** Parameters of {@link compact}. */
export interface CompactParams {
  readonly items: readonly CompactItem[];
}

/**
 * Moves slots out of place: rows, or references and magnitudes (codewords stay), positions, masks and betas. Exact.
 *
 * @throws {SpindleKVError} ERR_SPINDLEKV_ARGUMENT when a tensor's dtype, shape or strides or an option is wrong,
 *   ERR_SPINDLEKV_UNSUPPORTED when the backend has no kernel for it, ERR_SPINDLEKV_WRONG_DEVICE when the tensors
 *   are not on one device, ERR_SPINDLEKV_DISPOSED when one of them or the device is disposed,
 *   ERR_SPINDLEKV_OUT_OF_MEMORY when there is no room for the workspace
 * @example
 * ```ts
 * compact({ items: [{ src: old, dst: fresh, indices }] });
 * ```
 */
export function compact(params: CompactParams): void {
  native().compact(params);
}

/**
 * {@link compact} off the event loop; resolves when the device is done. Argument errors reject.
 *
 * @throws {SpindleKVError} as {@link compact}, and ERR_SPINDLEKV_ABORTED when `options.signal` aborted it: what was
 *   written until then means nothing
 */
export function compactAsync(params: CompactParams, options?: AsyncOptions): Promise<void> {
  return runJob(options, (token) => native().compactAsync(params, token));
}
