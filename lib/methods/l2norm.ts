import { type SkipLayersOptions, skipLayers } from "../budget/skip-layers.js";
import { uniform } from "../budget/uniform.js";
import type { Method, Schedule } from "../cache/method.js";
import { keyNorm } from "../score/key-norm.js";
import { topK } from "../select/top-k.js";
import { compose } from "./compose.js";
import { type TargetOptions, targetOf } from "./target.js";

/** Options of {@link l2norm}. */
export interface L2NormOptions extends TargetOptions {
  /** Layers that keep everything. Default "sixteenth": the first sixteenth of them, 2 of 32 (paper). */
  readonly skipLayers?: NonNullable<SkipLayersOptions["skip"]>;
  /** First slots that always stay. Default 0 (paper). */
  readonly sinks?: number;
  /** Last slots that always stay. Default 0 (paper). */
  readonly recent?: number;
  /** Caches of fewer tokens are left as they are (reference code: 2048). Default 0: the target holds. */
  readonly minTokens?: number;
  /** Default "after-prefill". */
  readonly schedule?: Schedule;
}

/**
 * The slots with the shortest keys, equally many in every layer but the first.
 *
 * @source L2 norm, arXiv 2406.11430.
 * @throws {SpindleKVError} ERR_SPINDLEKV_ARGUMENT when an option is out of range
 */
export function l2norm(options: L2NormOptions): Method {
  return compose({
    id: "l2norm",
    target: targetOf("l2norm", options),
    score: keyNorm(),
    budget: skipLayers({ budget: uniform(), skip: options.skipLayers ?? "sixteenth" }),
    select: topK({ sinks: options.sinks ?? 0, recent: options.recent ?? 0 }),
    schedule: options.schedule ?? "after-prefill",
    minTokens: options.minTokens ?? 0,
  });
}
