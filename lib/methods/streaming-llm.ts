import { uniform } from "../budget/uniform.js";
import type { Method } from "../cache/method.js";
import { position } from "../score/position.js";
import { sinksAndRecent } from "../select/sinks-and-recent.js";
import { compose } from "./compose.js";
import { type TargetOptions, targetOf } from "./target.js";

/** Options of {@link streamingLLM}. */
export interface StreamingLLMOptions extends TargetOptions {
  /** First slots that always stay. Default 4 (paper). */
  readonly sinks?: number;
  /** "reindexed" (default, paper): RoPE by slot index, so decoding never leaves the trained context. */
  readonly positions?: "original" | "reindexed";
}

/**
 * Attention sinks and the most recent slots.
 *
 * `tokens` (sinks included) holds at every step, from the first append on; `keep` and `bytes` from `compress()` on.
 *
 * @source StreamingLLM, arXiv 2309.17453, section 3.2.
 * @throws {SpindleKVError} ERR_SPINDLEKV_ARGUMENT when an option is out of range
 */
export function streamingLLM(options: StreamingLLMOptions): Method {
  return compose({
    id: "streaming-llm",
    target: targetOf("streamingLLM", options),
    score: position(),
    budget: uniform(),
    select: sinksAndRecent({ sinks: options.sinks ?? 4 }),
    schedule: "every-step",
    positions: options.positions ?? "reindexed",
  });
}
