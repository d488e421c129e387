import { uniform } from "../budget/uniform.js";
import type { Method, Schedule } from "../cache/method.js";
import { type LagRelativeOptions, lagRelative } from "../score/lag-relative.js";
import { topK } from "../select/top-k.js";
import { compose } from "./compose.js";
import { type TargetOptions, targetOf } from "./target.js";

/** Options of {@link lagKV}: a target and those of the ranking. */
export interface LagKVOptions extends TargetOptions, LagRelativeOptions {
  /** First slots that always stay. Default 4 (kvpress). */
  readonly sinks?: number;
  /** Default "after-prefill". */
  readonly schedule?: Schedule;
}

/**
 * Of every block of slots those that stray most from the block that follows; the last blocks stay.
 *
 * Defaults: blocks of 128, 4 sinks.
 *
 * @source LagKV, arXiv 2504.04704.
 * @throws {SpindleKVError} ERR_SPINDLEKV_ARGUMENT when an option is out of range
 */
export function lagKV(options: LagKVOptions): Method {
  return compose({
    id: "lagkv",
    target: targetOf("lagKV", options),
    score: lagRelative(options),
    budget: uniform(),
    select: topK({ sinks: options.sinks ?? 4, recent: 0 }),
    schedule: options.schedule ?? "after-prefill",
  });
}
