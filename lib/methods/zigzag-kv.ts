import { type UncertaintyOptions, uncertainty } from "../budget/uncertainty.js";
import type { Method } from "../cache/method.js";
import { type ObservationWindowOptions, observationWindow } from "../score/observation-window.js";
import { topK } from "../select/top-k.js";
import { compose } from "./compose.js";
import { type TargetOptions, targetOf } from "./target.js";

/** Options of {@link zigzagKV}: a target, those of the observation window and of the budget. */
export interface ZigZagKVOptions
  extends TargetOptions,
    ObservationWindowOptions,
    UncertaintyOptions {
  /** First slots that always stay. Default 0. */
  readonly sinks?: number;
}

/**
 * SnapKV's ranking with layer budgets by how many slots a layer's heads need to hold most of their attention.
 *
 * Defaults: window 32, max pooling over 7, mass 0.9; bound 0.2 (a public port's: the paper's is not known).
 *
 * @source ZigZagKV, arXiv 2412.09036.
 * @throws {SpindleKVError} ERR_SPINDLEKV_ARGUMENT when an option is out of range
 */
export function zigzagKV(options: ZigZagKVOptions): Method {
  return compose({
    id: "zigzagkv",
    target: targetOf("zigzagKV", options),
    score: observationWindow(options),
    budget: uncertainty(options),
    select: topK({ sinks: options.sinks ?? 0 }),
  });
}
