import { type CoverageOptions, coverage } from "../budget/coverage.js";
import { skipLayers } from "../budget/skip-layers.js";
import type { Method } from "../cache/method.js";
import { lastQuery } from "../score/last-query.js";
import { sinksAndRecent } from "../select/sinks-and-recent.js";
import { compose } from "./compose.js";

/** Options of {@link dBudgetKV}. There is no target: the budget finds itself. */
export interface DBudgetKVOptions extends CoverageOptions {
  /** First slots that always stay. Default 4 (paper). */
  readonly sinks?: number;
  /** Layers that keep everything, or "sixteenth": the first sixteenth of them. Default [0, 1] (paper). */
  readonly skipLayers?: readonly number[] | "sixteenth";
}

/**
 * Every head keeps its sinks and as many of its newest slots as hold 99 % of the last query's attention: no budget to
 * choose.
 *
 * Defaults: loss 0.01, 4 sinks, layers 0 and 1 whole, at least 32 slots behind the sinks.
 *
 * @source DBudgetKV / ReFreeKV, arXiv 2502.16886v3.
 * @throws {SpindleKVError} ERR_SPINDLEKV_ARGUMENT when an option is out of range
 */
export function dBudgetKV(options: DBudgetKVOptions = {}): Method {
  return compose({
    id: "dbudgetkv",
    score: lastQuery({ scope: "kv-head", group: "unfold" }),
    budget: skipLayers({ budget: coverage(options), skip: options.skipLayers ?? [0, 1] }),
    select: sinksAndRecent({ sinks: options.sinks ?? 4 }),
  });
}
