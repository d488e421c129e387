import { spindlePyramid } from "../budget/spindle-pyramid.js";
import type { Method } from "../cache/method.js";
import { type CodebookOptions, codebook } from "../codec/codebook.js";
import { type ObservationWindowOptions, observationWindow } from "../score/observation-window.js";
import { topK } from "../select/top-k.js";
import { compose } from "./compose.js";
import { type TargetOptions, targetOf } from "./target.js";

/** Options of {@link spindleKV}: a target, those of the observation window and of the codebook, and beta. */
export interface SpindleKVOptions extends TargetOptions, ObservationWindowOptions, CodebookOptions {
  /** Fraction of the context that the last layer keeps at least. Default 0.05 (paper). */
  readonly beta?: number;
  /** First slots that always stay. Default 0 (paper). */
  readonly sinks?: number;
  /** With group "unfold": who sees the union of the group's selections. Default "group". */
  readonly visibility?: "group" | "head";
}

function spindle(
  id: string,
  op: string,
  options: SpindleKVOptions,
  defaults: Partial<SpindleKVOptions>,
): Method {
  const target = targetOf(op, options);
  const given = Object.entries(options).filter(([, value]) => value !== undefined);
  const all: SpindleKVOptions = { ...defaults, ...Object.fromEntries(given) };
  return compose({
    id,
    target,
    score: observationWindow(all),
    budget: spindlePyramid(all.beta === undefined ? {} : { beta: all.beta }),
    select: topK({ sinks: all.sinks ?? 0, visibility: all.visibility ?? "group" }),
    codec: codebook(all),
  });
}

/**
 * Evict by attention with budgets that fall with depth, then replace what is alike by a codebook: deep layers
 * shrink by eviction, shallow ones by codewords. Nothing is evicted where the codebooks alone fit the budget.
 *
 * Defaults: window 32, max pooling over 11, mean over the group, beta 0.05, theta 0.98 (K) and 0.95 (V), raised
 * ("auto") where the codebooks alone leave some of the budget. Pooling, its width and the group mean were chosen by
 * needle questions other than the demo's; they differ from the paper, whose literal form is {@link spindleKV.paper}.
 *
 * @source SpindleKV, arXiv 2507.06517 (ACL 2025).
 * @throws {SpindleKVError} ERR_SPINDLEKV_ARGUMENT when an option is out of range
 */
export function spindleKV(options: SpindleKVOptions): Method {
  return spindle("spindlekv", "spindleKV", options, {
    pool: { kind: "max", kernel: 11 },
    theta: "auto",
  });
}

/**
 * The paper's literal form: no pooling, a ranking per query head, a selected slot visible only to the query
 * heads that selected it, mean over the window (`norm: "causalCount"` is the printed divisor), no refinement.
 */
spindleKV.paper = (options: SpindleKVOptions): Method =>
  spindle("spindlekv-paper", "spindleKV.paper", options, {
    pool: null,
    norm: "window",
    group: "unfold",
    visibility: "head",
    theta: "fixed",
    refine: 0,
  });
