/** attend: attention over stored slots. */
import { type AsyncOptions, runJob } from "../jobs.js";
import { native } from "../native.js";
import { attendByNumbers } from "./attend-by-numbers.js";
import type { Tensor } from "../tensor.js";
import type { Rope, Run } from "./types.js";
/** Parameters of {@link attend}. Hq = KV heads * group. */
export interface AttendParams {
  /** `[Hq, queries, headDim]`, before RoPE if `rope` is given. */
  readonly q: Tensor;
  /** Shape and dtype of q; memory of its own. */
  readonly out: Tensor;
  /** `[Hq, queries]` f32 out: log-sum-exp of the logits, -Infinity for a query that sees nothing. */
  readonly lse?: Tensor | undefined;
  /** The runs of every KV head, in slot order. */
  readonly heads: readonly (readonly Run[])[];
  /** Factor of the logits; default 1 / sqrt(headDim). */
  readonly scale?: number | undefined;
  /** Query t sees slots with position <= queryPosition + t; default true. */
  readonly causal?: boolean | undefined;
  /** Logical position of the first query. */
  readonly queryPosition: number;
  /** Position that the first query is turned by; default queryPosition. */
  readonly ropeQueryPosition?: number | undefined;
  /** Keys turn by their slot index instead of their position; default false. */
  readonly reindex?: boolean | undefined;
  readonly rope?: Rope | undefined;
  /** f32, `[Hq or KV heads, >= slots]`: each slot's probabilities are added to it. */
  readonly scoreSum?: Tensor | undefined;
  /** What a row of scoreSum stands for; with "kv-head" its group is summed. Given with scoreSum. */
  readonly scoreMode?: "query-head" | "kv-head" | undefined;
}

/**
 * `out[h, t] = sum_s p v[s]` with `p = softmax_s(scale * <q, k[s]> + beta[s])` over the visible slots of h's KV
 * head; a query that sees no slot gives 0. The result does not depend on the number of threads.
 *
 * @throws {SpindleKVError} ERR_SPINDLEKV_ARGUMENT when a tensor's dtype, shape or strides or an option is wrong,
 *   ERR_SPINDLEKV_UNSUPPORTED when the backend has no kernel for it, ERR_SPINDLEKV_WRONG_DEVICE when the tensors
 *   are not on one device, ERR_SPINDLEKV_DISPOSED when one of them or the device is disposed,
 *   ERR_SPINDLEKV_OUT_OF_MEMORY when there is no room for the workspace
 * @example
 * ```ts
 * attend({ q, out, heads: [[{ codec: "raw", k, v, positions }]], queryPosition: 127 });
 * ```
 */
export function attend(params: AttendParams): void {
  if (!attendByNumbers(params)) native().attend(params);
}

/**
 * {@link attend} off the event loop; resolves when the device is done. Argument errors reject.
 *
 * @throws {SpindleKVError} as {@link attend}, and ERR_SPINDLEKV_ABORTED when `options.signal` aborted it: what was
 *   written until then means nothing
 */
export function attendAsync(params: AttendParams, options?: AsyncOptions): Promise<void> {
  return runJob(options, (token) => native().attendAsync(params, token));
}
