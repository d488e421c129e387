import { type CascadeOptions, cascade } from "../budget/cascade.js";
import type { Method } from "../cache/method.js";
import { lastQuery } from "../score/last-query.js";
import { type ObservationWindowOptions, observationWindow } from "../score/observation-window.js";
import { topK } from "../select/top-k.js";
import { compose } from "./compose.js";
import { type TargetOptions, targetOf } from "./target.js";

/** Options of {@link cake}: a target, those of the observation window and of the budget. */
export interface CakeOptions extends TargetOptions, ObservationWindowOptions, CascadeOptions {
  /** First slots that always stay. Default 0. */
  readonly sinks?: number;
  /** Whether decoding goes on evicting (paper). Default true; false: what is decoded stays. */
  readonly decode?: boolean;
}

/**
 * Layer budgets by the dispersion and the shift of a layer's attention; slots by the mean and the variance of the
 * window's attention. Applied as the prompt leaves each layer (`layer.compress()`), the whole cache never exists.
 *
 * Defaults: window 32, gamma 200, mean pooling over 5, mean over the group, tau 1 and 1. While decoding, each layer
 * holds its size by the newest query's attention; the window stays protected.
 *
 * @source CAKE, arXiv 2503.12491, and its reference code.
 * @throws {SpindleKVError} ERR_SPINDLEKV_ARGUMENT when an option is out of range
 */
export function cake(options: CakeOptions): Method {
  const { window = 32, gamma = 200, pool = { kind: "mean", kernel: 5 }, decode = true } = options;
  return compose({
    id: "cake",
    target: targetOf("cake", options),
    score: observationWindow({ ...options, window, gamma, pool }),
    stepScore: decode ? lastQuery({ scope: "kv-head" }) : null,
    budget: cascade(options),
    select: topK({ sinks: options.sinks ?? 0, recent: window }),
    schedule: "per-layer",
  });
}
