import { pyramid } from "../budget/pyramid.js";
import type { Method } from "../cache/method.js";
import { type ObservationWindowOptions, observationWindow } from "../score/observation-window.js";
import { topK } from "../select/top-k.js";
import { compose } from "./compose.js";
import { type TargetOptions, targetOf } from "./target.js";

/** Options of {@link pyramidKV}: a target, those of the observation window, and beta. */
export interface PyramidKVOptions extends TargetOptions, ObservationWindowOptions {
  /** The last layer keeps a beta-th of the mean budget. Default 20 (reference code). */
  readonly beta?: number;
  /** First slots that always stay. Default 0 (paper). */
  readonly sinks?: number;
  /** With group "unfold": who sees the union of the group's selections. Default "group". */
  readonly visibility?: "group" | "head";
}

/**
 * SnapKV's ranking with budgets that fall linearly with depth.
 *
 * Defaults: window 8, max pooling over 7 (the reference runner), mean over the group, beta 20.
 *
 * @source PyramidKV, arXiv 2406.02069.
 * @throws {SpindleKVError} ERR_SPINDLEKV_ARGUMENT when an option is out of range
 */
export function pyramidKV(options: PyramidKVOptions): Method {
  return compose({
    id: "pyramidkv",
    target: targetOf("pyramidKV", options),
    score: observationWindow({ ...options, window: options.window ?? 8 }),
    budget: pyramid(options.beta === undefined ? {} : { beta: options.beta }),
    select: topK({ sinks: options.sinks ?? 0, visibility: options.visibility ?? "group" }),
  });
}
