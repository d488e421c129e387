import { uniform } from "../budget/uniform.js";
import type { Method, Schedule } from "../cache/method.js";
import {
  type AccumulatedAttentionOptions,
  accumulatedAttention,
} from "../score/accumulated-attention.js";
import { topK } from "../select/top-k.js";
import { compose } from "./compose.js";
import { type TargetOptions, targetOf } from "./target.js";

/** Options of {@link h2o}: a target and those of the accumulated attention. */
export interface H2OOptions extends TargetOptions, AccumulatedAttentionOptions {
  /** Part of the budget that goes to the last slots, in [0, 1]; the rest to the heavy hitters. Default 0.5 (paper). */
  readonly recentShare?: number;
  /** First slots that always stay. Default 0 (paper). */
  readonly sinks?: number;
  /** Default "every-step" (paper): `cache.maintain()` after every pass. */
  readonly schedule?: Schedule;
}

/**
 * Heavy hitters: the slots that got the most attention so far, beside the most recent ones.
 *
 * Defaults: half of the budget recent, half heavy hitters (the paper's equal ratios), sums not normalised by age.
 *
 * @source H2O, arXiv 2306.14048.
 * @throws {SpindleKVError} ERR_SPINDLEKV_ARGUMENT when an option is out of range
 */
export function h2o(options: H2OOptions): Method {
  return compose({
    id: "h2o",
    target: targetOf("h2o", options),
    score: accumulatedAttention(options),
    budget: uniform(),
    select: topK({ sinks: options.sinks ?? 0, recent: { share: options.recentShare ?? 0.5 } }),
    schedule: options.schedule ?? "every-step",
  });
}
