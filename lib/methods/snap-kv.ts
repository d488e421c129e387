import { uniform } from "../budget/uniform.js";
import type { Method } from "../cache/method.js";
import { type ObservationWindowOptions, observationWindow } from "../score/observation-window.js";
import { topK } from "../select/top-k.js";
import { compose } from "./compose.js";
import { type TargetOptions, targetOf } from "./target.js";

/** Options of {@link snapKV}: a target and those of the observation window. */
export interface SnapKVOptions extends TargetOptions, ObservationWindowOptions {
  /** First slots that always stay. Default 0 (paper). */
  readonly sinks?: number;
  /** With group "unfold": who sees the union of the group's selections. Default "group". */
  readonly visibility?: "group" | "head";
}

/**
 * The slots that the last queries attend to, equally many in every layer.
 *
 * Defaults: window 32, max pooling over 7 (the paper's LongBench setting), mean over the group.
 *
 * @source SnapKV, arXiv 2404.14469.
 * @throws {SpindleKVError} ERR_SPINDLEKV_ARGUMENT when an option is out of range
 */
export function snapKV(options: SnapKVOptions): Method {
  return compose({
    id: "snapkv",
    target: targetOf("snapKV", options),
    score: observationWindow(options),
    budget: uniform(),
    select: topK({ sinks: options.sinks ?? 0, visibility: options.visibility ?? "group" }),
  });
}
