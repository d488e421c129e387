/** key_stats: what the stored keys and values of each slot say by themselves. */
import { type AsyncOptions, runJob } from "../jobs.js";
import { native } from "../native.js";
import type { Tensor } from "../tensor.js";
import type { Rope, Run } from "./types.js";
/** Parameters of {@link keyStats}. Every output may be left out. */
export interface KeyStatsParams {
  /** The runs of every KV head, in slot order. */
  readonly heads: readonly (readonly Run[])[];
  /** Turns keys that are stored before RoPE for `cosToMean`; the norms do not depend on it. */
  readonly rope?: Rope | undefined;
  /** Keys turn by their slot index instead of their position; default false. */
  readonly reindex?: boolean | undefined;
  /** `[Hkv, >= slots]` f32 out: L2 norm of the key. */
  readonly kNorm?: Tensor | undefined;
  /** `[Hkv, >= slots]` f32 out: cosine of the key, as attention reads it, with the mean of all keys of its head, each
   * of unit length. */
  readonly cosToMean?: Tensor | undefined;
  /** `[Hkv, >= slots]` f32 out: L2 norm of the value. */
  readonly vNorm?: Tensor | undefined;
  /** `[Hkv, >= slots]` f32 out: L1 norm of the value. */
  readonly vL1?: Tensor | undefined;
  /** `[1]` i32: the number of norms that are NaN or infinite is added (of keys also for `cosToMean`). */
  readonly nonfinite?: Tensor | undefined;
}

/**
 * Norms of keys and values and each key's cosine with its head's mean direction, over all slots of a layer. Masks play
 * no part. Bitwise equal on every backend.
 *
 * @source the L2 norm (arXiv 2406.11430), KeyDiff (2504.15364), LAVa (2509.09754)
 *
 * @throws {SpindleKVError} ERR_SPINDLEKV_ARGUMENT when a tensor's dtype, shape or strides or an option is wrong,
 *   ERR_SPINDLEKV_UNSUPPORTED when the backend has no kernel for it, ERR_SPINDLEKV_WRONG_DEVICE when the tensors
 *   are not on one device, ERR_SPINDLEKV_DISPOSED when one of them or the device is disposed,
 *   ERR_SPINDLEKV_OUT_OF_MEMORY when there is no room for the workspace
 * @example
 * ```ts
 * const kNorm = Tensor.zeros(device, "f32", [heads.length, 1000]);
 * keyStats({ heads, kNorm });
 * ```
 */
export function keyStats(params: KeyStatsParams): void {
  native().keyStats(params);
}

/**
 * {@link keyStats} off the event loop; resolves when the device is done. Argument errors reject.
 *
 * @throws {SpindleKVError} as {@link keyStats}, and ERR_SPINDLEKV_ABORTED when `options.signal` aborted it: what was
 *   written until then means nothing
 */
export function keyStatsAsync(params: KeyStatsParams, options?: AsyncOptions): Promise<void> {
  return runJob(options, (token) => native().keyStatsAsync(params, token));
}
