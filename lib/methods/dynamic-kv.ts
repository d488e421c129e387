import { type GlobalLayersOptions, globalLayers } from "../budget/global-layers.js";
import type { Method } from "../cache/method.js";
import { type ObservationWindowOptions, observationWindow } from "../score/observation-window.js";
import { topK } from "../select/top-k.js";
import { compose } from "./compose.js";
import { type TargetOptions, targetOf } from "./target.js";

/** Options of {@link dynamicKV}: a target, those of the observation window and of the budget. */
export interface DynamicKVOptions
  extends TargetOptions,
    ObservationWindowOptions,
    GlobalLayersOptions {
  /** First slots that always stay. Default 0. */
  readonly sinks?: number;
}

/**
 * SnapKV's ranking with layer budgets by where the best scores of all layers are.
 *
 * Defaults: window 8, max pooling over 7, mean over the group, at most 10 times the mean budget in a layer (reference
 * code). Applied as the prompt leaves each layer (`layer.compress()`).
 *
 * @source DynamicKV, arXiv 2412.14838.
 * @throws {SpindleKVError} ERR_SPINDLEKV_ARGUMENT when an option is out of range
 */
export function dynamicKV(options: DynamicKVOptions): Method {
  return compose({
    id: "dynamickv",
    target: targetOf("dynamicKV", options),
    score: observationWindow({ ...options, window: options.window ?? 8 }),
    budget: globalLayers(options),
    select: topK({ sinks: options.sinks ?? 0 }),
    schedule: "per-layer",
  });
}
