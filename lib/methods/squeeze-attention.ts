import { type SqueezeOptions, squeeze } from "../budget/squeeze.js";
import type { Method } from "../cache/method.js";
import { argumentError } from "../errors.js";
import { accumulatedAttention } from "../score/accumulated-attention.js";
import { position } from "../score/position.js";
import { sinksAndRecent } from "../select/sinks-and-recent.js";
import { topK } from "../select/top-k.js";
import { compose } from "./compose.js";
import { type TargetOptions, targetOf } from "./target.js";

/** Options of {@link squeezeAttention}: a target, p and what happens inside a layer. */
export interface SqueezeAttentionOptions extends TargetOptions, SqueezeOptions {
  /** How a layer chooses its slots: the three that the paper combines it with. Default "streaming-llm". */
  readonly policy?: "sliding-window" | "streaming-llm" | "h2o";
  /** First slots that always stay. Default 4 with "streaming-llm", 0 otherwise. */
  readonly sinks?: number;
}

/**
 * Layer budgets by how much a layer's attention changes the residual stream, over any policy of slots.
 *
 * Defaults: p 0.35, StreamingLLM's slots at their original positions. The runtime shows the streams by
 * `layer.observe` while the prompt goes through.
 *
 * @source SqueezeAttention, arXiv 2404.04793.
 * @throws {SpindleKVError} ERR_SPINDLEKV_ARGUMENT when an option is out of range
 */
export function squeezeAttention(options: SqueezeAttentionOptions): Method {
  const policy = options.policy ?? "streaming-llm";
  if (!["sliding-window", "streaming-llm", "h2o"].includes(policy)) {
    throw argumentError(
      "squeezeAttention",
      '"sliding-window", "streaming-llm" or "h2o"',
      "policy",
      policy,
    );
  }
  const sinks = options.sinks ?? (policy === "streaming-llm" ? 4 : 0);
  return compose({
    id: "squeeze-attention",
    target: targetOf("squeezeAttention", options),
    score: policy === "h2o" ? accumulatedAttention() : position(),
    budget: squeeze(options),
    select: policy === "h2o" ? topK({ sinks, recent: { share: 0.5 } }) : sinksAndRecent({ sinks }),
    schedule: "every-step",
  });
}
