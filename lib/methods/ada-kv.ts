import { adaptiveHeads } from "../budget/adaptive-heads.js";
import { pyramid } from "../budget/pyramid.js";
import { uniform } from "../budget/uniform.js";
import type { Method } from "../cache/method.js";
import { argumentError } from "../errors.js";
import { type ObservationWindowOptions, observationWindow } from "../score/observation-window.js";
import { topK } from "../select/top-k.js";
import { compose } from "./compose.js";
import { type TargetOptions, targetOf } from "./target.js";

/** Options of {@link adaKV}: a target, those of the observation window and of the heads' budget. */
export interface AdaKVOptions extends TargetOptions, ObservationWindowOptions {
  /** Part of the layer's mean that every head gets whatever its scores, in [0, 1]. Default 0.2. */
  readonly floor?: number;
  /** How the layers share the total: "uniform" (Ada-SnapKV, default) or "pyramid" (Ada-PyramidKV). */
  readonly layers?: "uniform" | "pyramid";
  /** With layers "pyramid": the last layer keeps a beta-th of the mean budget. Default 20. */
  readonly beta?: number;
  /** First slots that always stay. Default 0. */
  readonly sinks?: number;
}

/**
 * SnapKV's ranking (or PyramidKV's budgets) with the heads of a layer sharing its budget by where the best scores are.
 *
 * Defaults: window 32, max pooling over 7, mean over the group, floor 0.2.
 *
 * @source Ada-KV, arXiv 2407.11550.
 * @throws {SpindleKVError} ERR_SPINDLEKV_ARGUMENT when an option is out of range
 */
export function adaKV(options: AdaKVOptions): Method {
  const { layers = "uniform", floor = 0.2, beta } = options;
  if (layers !== "uniform" && layers !== "pyramid") {
    throw argumentError("adaKV", '"uniform" or "pyramid"', "layers", layers);
  }
  const perLayer = layers === "uniform" ? uniform() : pyramid(beta === undefined ? {} : { beta });
  return compose({
    id: "adakv",
    target: targetOf("adaKV", options),
    score: observationWindow(options),
    budget: adaptiveHeads({ layers: perLayer, floor }),
    select: topK({ sinks: options.sinks ?? 0 }),
  });
}
