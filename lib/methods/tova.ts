import { uniform } from "../budget/uniform.js";
import type { Method, Schedule } from "../cache/method.js";
import { lastQuery } from "../score/last-query.js";
import { topK } from "../select/top-k.js";
import { compose } from "./compose.js";
import { type TargetOptions, targetOf } from "./target.js";

/** Options of {@link tova}. */
export interface TOVAOptions extends TargetOptions {
  /** "layer" (default, paper): all heads of a layer keep the same slots. */
  readonly scope?: "layer" | "kv-head";
  /** First slots that always stay. Default 0 (paper). */
  readonly sinks?: number;
  /** Last slots that always stay. Default 0 (paper): even the newest may go. */
  readonly recent?: number;
  /** Default "every-step" (paper): `cache.maintain()` after every pass. */
  readonly schedule?: Schedule;
}

/**
 * A cache of fixed size that drops, after every token, what the token attended to least.
 *
 * @source TOVA, arXiv 2401.06104.
 * @throws {SpindleKVError} ERR_SPINDLEKV_ARGUMENT when an option is out of range
 */
export function tova(options: TOVAOptions): Method {
  return compose({
    id: "tova",
    target: targetOf("tova", options),
    score: lastQuery({ scope: options.scope ?? "layer" }),
    budget: uniform(),
    select: topK({ sinks: options.sinks ?? 0, recent: options.recent ?? 0 }),
    schedule: options.schedule ?? "every-step",
  });
}
