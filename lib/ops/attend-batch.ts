/** attend_batch: attention of several caches in one call. */
import { type AsyncOptions, runJob } from "../jobs.js";
import { native } from "../native.js";
import type { AttendParams } from "./attend.js";

/** Parameters of {@link attendBatch}. */
export interface AttendBatchParams {
  /**
   * One attention each; `q`, K and V have the same dtypes, head dimension and query heads per KV head in all of them, the rest
   * may differ. No output overlaps another item's. An empty list does nothing.
   */
  readonly items: readonly AttendParams[];
}

/**
 * What {@link attend} does for every item, in one call: the sequences of a server's step, whose caches differ in
 * length and storage. Leading runs of a KV head that are the same tensors in several items (a prefix kept through
 * `fork()`) are read once for all of them, so an item's result may differ from that of `attend` in the last bits;
 * it does not depend on the order of the items or on the number of threads.
 *
 * @throws {SpindleKVError} ERR_SPINDLEKV_ARGUMENT when a tensor's dtype, shape or strides or an option is wrong or
 *   items do not agree, ERR_SPINDLEKV_UNSUPPORTED when the backend has no kernel for it, ERR_SPINDLEKV_WRONG_DEVICE
 *   when the tensors are not on one device, ERR_SPINDLEKV_DISPOSED when one of them or the device is disposed,
 *   ERR_SPINDLEKV_OUT_OF_MEMORY when there is no room for the workspace
 * @example
 * ```ts
 * const prefix = { codec: "raw", k, v, positions } as const;
 * attendBatch({
 *   items: [
 *     { q, out, heads: [[prefix]], queryPosition: 127 },
 *     { q: q2, out: out2, heads: [[prefix, { codec: "raw", k: k2, v: v2, positions: positions2 }]], queryPosition: 130 },
 *   ],
 * });
 * ```
 */
export function attendBatch(params: AttendBatchParams): void {
  native().attendBatch(params);
}

/**
 * {@link attendBatch} off the event loop; resolves when the device is done. Argument errors reject.
 *
 * @throws {SpindleKVError} as {@link attendBatch}, and ERR_SPINDLEKV_ABORTED when `options.signal` aborted it: what
 *   was written until then means nothing
 */
export function attendBatchAsync(params: AttendBatchParams, options?: AsyncOptions): Promise<void> {
  return runJob(options, (token) => native().attendBatchAsync(params, token));
}
