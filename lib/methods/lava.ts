import { adaptiveHeads } from "../budget/adaptive-heads.js";
import { entropyCascade } from "../budget/entropy-cascade.js";
import type { Method } from "../cache/method.js";
import { type ObservationWindowOptions, observationWindow } from "../score/observation-window.js";
import { topK } from "../select/top-k.js";
import { compose } from "./compose.js";
import { type TargetOptions, targetOf } from "./target.js";

/** Options of {@link lava}: a target and those of the observation window. */
export interface LAVaOptions extends TargetOptions, ObservationWindowOptions {
  /** Part of the layer's mean that every head gets, in [0, 1]. Default 0 (paper: no parameter). */
  readonly floor?: number;
  /** First slots that always stay. Default 0. */
  readonly sinks?: number;
}

/**
 * One measure for slots, heads and layers: attention times the size of the head's values. Heads share their layer's
 * budget by it, layers the whole by its entropy.
 *
 * Defaults: window 32, mean over the window, max pooling over 7, max over the group, times the largest L1 norm of the
 * head's values. Applied as the prompt leaves each layer (`layer.compress()`).
 *
 * @source LAVa, arXiv 2509.09754, and its reference code.
 * @throws {SpindleKVError} ERR_SPINDLEKV_ARGUMENT when an option is out of range
 */
export function lava(options: LAVaOptions): Method {
  const { norm = "window", group = "max", valueNorm = "l1-max", floor = 0 } = options;
  return compose({
    id: "lava",
    target: targetOf("lava", options),
    score: observationWindow({ ...options, norm, group, valueNorm }),
    budget: adaptiveHeads({ layers: entropyCascade(), floor }),
    select: topK({ sinks: options.sinks ?? 0 }),
    schedule: "per-layer",
  });
}
