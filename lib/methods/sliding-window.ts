import { uniform } from "../budget/uniform.js";
import type { Method } from "../cache/method.js";
import { position } from "../score/position.js";
import { sinksAndRecent } from "../select/sinks-and-recent.js";
import { compose } from "./compose.js";
import { type TargetOptions, targetOf } from "./target.js";

/** Options of {@link slidingWindow}: `tokens` keeps the window at every step, `keep` or `bytes` from `compress()` on. */
export type SlidingWindowOptions = TargetOptions;

/**
 * The last slots only, at their original positions.
 *
 * @throws {SpindleKVError} ERR_SPINDLEKV_ARGUMENT when not exactly one target is given
 */
export function slidingWindow(options: SlidingWindowOptions): Method {
  return compose({
    id: "sliding-window",
    target: targetOf("slidingWindow", options),
    score: position(),
    budget: uniform(),
    select: sinksAndRecent({ sinks: 0 }),
    schedule: "every-step",
  });
}
