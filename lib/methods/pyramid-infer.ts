import { type CosineScheduleOptions, cosineSchedule } from "../budget/cosine-schedule.js";
import type { Method } from "../cache/method.js";
import { observationWindow } from "../score/observation-window.js";
import { topK } from "../select/top-k.js";
import { compose } from "./compose.js";
import { type TargetOptions, targetOf } from "./target.js";

/** Options of {@link pyramidInfer}. */
export interface PyramidInferOptions extends TargetOptions, CosineScheduleOptions {
  /** Part of the prompt whose queries rank and which stays, in (0, 1]. Default 0.2. */
  readonly recentRatio?: number;
  /** Queries recorded at most, 1..1024. Default 1024. */
  readonly window?: number;
  /** Weight of the last query relative to the first. Default 1.2. */
  readonly distanceWeight?: number;
  /** First slots that always stay. Default 4. */
  readonly sinks?: number;
}

/**
 * The part of PyramidInfer that a cache can do: one set of slots for a layer, ranked by the recent fifth of the
 * prompt, and budgets that fall along a cosine. (The paper drops hidden states, so that deeper layers do not even
 * compute the keys of dropped tokens; that takes a runtime, which `rowPruner` tells what to drop.)
 *
 * Defaults: recent 0.2, weights growing to 1.2, decay 0.9, 4 sinks (the reference setting for 7B models).
 *
 * @source PyramidInfer, arXiv 2405.12532.
 * @throws {SpindleKVError} ERR_SPINDLEKV_ARGUMENT when an option is out of range
 */
export function pyramidInfer(options: PyramidInferOptions): Method {
  const { window = 1024, recentRatio = 0.2, distanceWeight = 1.2 } = options;
  return compose({
    id: "pyramid-infer",
    target: targetOf("pyramidInfer", options),
    score: observationWindow({
      window,
      windowFraction: recentRatio,
      distanceWeight,
      norm: "window",
      pool: null,
      scope: "layer",
    }),
    budget: cosineSchedule(options),
    select: topK({ sinks: options.sinks ?? 4 }),
  });
}
