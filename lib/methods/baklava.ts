import { type BudgetProfile, profiled } from "../budget/profiled.js";
import type { Method } from "../cache/method.js";
import { type ObservationWindowOptions, observationWindow } from "../score/observation-window.js";
import { topK } from "../select/top-k.js";
import { compose } from "./compose.js";
import { type TargetOptions, targetOf } from "./target.js";

/** Options of {@link baklava}: a target, the model's profile and those of the observation window. */
export interface BaKlaVaOptions extends TargetOptions, ObservationWindowOptions {
  /** Importance of each layer and KV head of this very model, made once. */
  readonly profile: BudgetProfile;
  /** First slots that always stay. Default 0. */
  readonly sinks?: number;
}

/**
 * SnapKV's ranking with a budget for each KV head from an offline profile of the model.
 *
 * Defaults: window 32, max pooling over 7, mean over the group.
 *
 * @source BaKlaVa, arXiv 2502.13176.
 * @throws {SpindleKVError} ERR_SPINDLEKV_ARGUMENT when an option is out of range
 */
export function baklava(options: BaKlaVaOptions): Method {
  return compose({
    id: "baklava",
    target: targetOf("baklava", options),
    score: observationWindow(options),
    budget: profiled(options.profile),
    select: topK({ sinks: options.sinks ?? 0 }),
  });
}
