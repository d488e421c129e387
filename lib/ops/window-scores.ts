/** window_scores: how much attention each slot gets. */
import { type AsyncOptions, runJob } from "../jobs.js";
import { native } from "../native.js";
import type { Tensor } from "../tensor.js";
import type { Rope, Run } from "./types.js";
/** Parameters of {@link windowScores}. Every output may be left out. */
export interface WindowScoresParams {
  /** `[Hq, window, headDim]`, before RoPE if `rope` is given; window >= 1. */
  readonly q: Tensor;
  /** The runs of every KV head, in slot order. */
  readonly heads: readonly (readonly Run[])[];
  /** Factor of the logits; default 1 / sqrt(headDim). */
  readonly scale?: number | undefined;
  /** Logical position of the first query. */
  readonly queryPosition: number;
  /** Position that the first query is turned by; default queryPosition. */
  readonly ropeQueryPosition?: number | undefined;
  /** Keys turn by their slot index instead of their position; default false. */
  readonly reindex?: boolean | undefined;
  readonly rope?: Rope | undefined;
  /** Divisor of `sum` (and of `sumSq` for "window"): none, the window, or the queries of the whole prompt that
   * can see the slot; default "sum". */
  readonly norm?: "sum" | "window" | "causalCount" | undefined;
  /** `[window]` f32: what the queries weigh in `sum`; divisors stay as they are. Default 1 each. */
  readonly queryWeights?: Tensor | undefined;
  /** `entropy` counts only slots whose position is below queryPosition; default false. */
  readonly entropyContext?: boolean | undefined;
  /** `[Hq, >= slots]` f32 out: sum over the window of the probabilities. */
  readonly sum?: Tensor | undefined;
  /** `[Hq, >= slots]` f32 out: sum of their squares. */
  readonly sumSq?: Tensor | undefined;
  /** `[Hq, >= slots]` f32 out: the largest. */
  readonly max?: Tensor | undefined;
  /** `[Hq]` f32 out: -sum p ln p over window and slots. */
  readonly entropy?: Tensor | undefined;
  /** `[Hq, window]` f32 out: log-sum-exp of the logits. */
  readonly lse?: Tensor | undefined;
  /** `[1]` i32: the number of visible logits that are NaN or infinite is added. */
  readonly nonfinite?: Tensor | undefined;
}

/**
 * Column statistics of the softmax of some queries over all slots, without the attention matrix. Bitwise equal on
 * every backend, entropy and lse apart.
 *
 * @source SnapKV (arXiv 2404.14469), H2O (2306.14048), TOVA (2401.06104), CAKE (2503.12491), SpindleKV (2507.06517) eq. 2
 *
 * @throws {SpindleKVError} ERR_SPINDLEKV_ARGUMENT when a tensor's dtype, shape or strides or an option is wrong,
 *   ERR_SPINDLEKV_UNSUPPORTED when the backend has no kernel for it, ERR_SPINDLEKV_WRONG_DEVICE when the tensors
 *   are not on one device, ERR_SPINDLEKV_DISPOSED when one of them or the device is disposed,
 *   ERR_SPINDLEKV_OUT_OF_MEMORY when there is no room for the workspace
 * @example
 * ```ts
 * windowScores({ q, heads, queryPosition: 1000 - 32, sum: scores });
 * ```
 */
export function windowScores(params: WindowScoresParams): void {
  native().windowScores(params);
}

/**
 * {@link windowScores} off the event loop; resolves when the device is done. Argument errors reject.
 *
 * @throws {SpindleKVError} as {@link windowScores}, and ERR_SPINDLEKV_ABORTED when `options.signal` aborted it: what was
 *   written until then means nothing
 */
export function windowScoresAsync(
  params: WindowScoresParams,
  options?: AsyncOptions,
): Promise<void> {
  return runJob(options, (token) => native().windowScoresAsync(params, token));
}
