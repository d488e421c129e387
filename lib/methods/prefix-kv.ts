import { globalPrefix } from "../budget/global-prefix.js";
import type { Method } from "../cache/method.js";
import { accumulatedAttention } from "../score/accumulated-attention.js";
import { topK } from "../select/top-k.js";
import { compose } from "./compose.js";
import { type TargetOptions, targetOf } from "./target.js";

/** Options of {@link prefixKV}. */
export interface PrefixKVOptions extends TargetOptions {
  /** "layer" (default, paper): all heads of a layer keep the same slots. */
  readonly scope?: "layer" | "kv-head";
  /** First slots that always stay. Default 1 (reference code). */
  readonly sinks?: number;
  /** Last slots that always stay. Default 1 (reference code). */
  readonly recent?: number;
}

/**
 * Every layer keeps the slots that hold one and the same part of its attention: layers whose attention is spread keep
 * more.
 *
 * Defaults: attention of all the prompt's queries, one set of slots a layer, one sink, one recent slot. Decoded slots
 * stay (the reference code drops the one 25 slots back, without looking at it).
 *
 * @source PrefixKV, arXiv 2412.03409.
 * @throws {SpindleKVError} ERR_SPINDLEKV_ARGUMENT when an option is out of range
 */
export function prefixKV(options: PrefixKVOptions): Method {
  return compose({
    id: "prefixkv",
    target: targetOf("prefixKV", options),
    score: accumulatedAttention({ scope: options.scope ?? "layer" }),
    budget: globalPrefix(),
    select: topK({ sinks: options.sinks ?? 1, recent: options.recent ?? 1 }),
  });
}
