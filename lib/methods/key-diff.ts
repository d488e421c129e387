import { uniform } from "../budget/uniform.js";
import type { Method, Schedule } from "../cache/method.js";
import { keyDiff as keyDiffScore } from "../score/key-diff.js";
import { topK } from "../select/top-k.js";
import { compose } from "./compose.js";
import { type TargetOptions, targetOf } from "./target.js";

/** Options of {@link keyDiff}. */
export interface KeyDiffOptions extends TargetOptions {
  /** First slots that always stay. Default 0. */
  readonly sinks?: number;
  /** Last slots that always stay. Default 0. */
  readonly recent?: number;
  /** Default "after-prefill"; "every-step" or `{ every: n }` holds the budget while a long prompt comes in pieces. */
  readonly schedule?: Schedule;
}

/**
 * The slots whose keys are least like the mean key of their head, equally many in every layer.
 *
 * @source KeyDiff, arXiv 2504.15364.
 * @throws {SpindleKVError} ERR_SPINDLEKV_ARGUMENT when an option is out of range
 */
export function keyDiff(options: KeyDiffOptions): Method {
  return compose({
    id: "key-diff",
    target: targetOf("keyDiff", options),
    score: keyDiffScore(),
    budget: uniform(),
    select: topK({ sinks: options.sinks ?? 0, recent: options.recent ?? 0 }),
    schedule: options.schedule ?? "after-prefill",
  });
}
