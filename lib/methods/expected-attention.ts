import { adaptiveHeads } from "../budget/adaptive-heads.js";
import { uniform } from "../budget/uniform.js";
import type { Method } from "../cache/method.js";
import { argumentError } from "../errors.js";
import {
  type ExpectedAttentionOptions as ExpectedAttentionScoreOptions,
  expectedAttention as expectedAttentionScore,
} from "../score/expected-attention.js";
import { topK } from "../select/top-k.js";
import { compose } from "./compose.js";
import { type TargetOptions, targetOf } from "./target.js";

/** Options of {@link expectedAttention}: a target and those of the ranking. */
export interface ExpectedAttentionOptions extends TargetOptions, ExpectedAttentionScoreOptions {
  /** "uniform" (default), or "adaptive": the heads of a layer share its budget by where the best scores are (Ada-KV). */
  readonly heads?: "uniform" | "adaptive";
  /** With heads "adaptive": part of the layer's mean that every head gets, in [0, 1]. Default 0.2. */
  readonly floor?: number;
  /** First slots that always stay. Default 4. */
  readonly sinks?: number;
  /** Last slots that always stay. Default 0. */
  readonly recent?: number;
}

/**
 * The slots that queries to come are expected to attend to, by the statistics of those seen.
 *
 * Defaults: the last 1024 queries, 512 positions to come, with covariance, times the value's norm, 4 sinks, equally many
 * slots in every head. What kvpress evaluates under this name is `{ heads: "adaptive", epsilon: 0.01 }`.
 *
 * @source Expected Attention, arXiv 2510.00636, and kvpress.
 * @throws {SpindleKVError} ERR_SPINDLEKV_ARGUMENT when an option is out of range
 */
export function expectedAttention(options: ExpectedAttentionOptions): Method {
  const { heads = "uniform", floor = 0.2 } = options;
  if (heads !== "uniform" && heads !== "adaptive") {
    throw argumentError("expectedAttention", '"uniform" or "adaptive"', "heads", heads);
  }
  return compose({
    id: "expected-attention",
    target: targetOf("expectedAttention", options),
    score: expectedAttentionScore(options),
    budget: heads === "uniform" ? uniform() : adaptiveHeads({ layers: uniform(), floor }),
    select: topK({ sinks: options.sinks ?? 4, recent: options.recent ?? 0 }),
  });
}
