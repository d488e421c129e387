import {
  type BudgetEvidence,
  type BudgetPart,
  type EvidenceBudget,
  type LayerPlan,
  preparePlanner,
  statisticsOf,
} from "../cache/method.js";
import { argumentError } from "../errors.js";

/** Options of {@link skipLayers}. */
export interface SkipLayersOptions {
  /** How the other layers share what is left. */
  readonly budget: BudgetPart;
  /** Layers that keep everything; "sixteenth" (default): the first sixteenth of them, 2 of 32. */
  readonly skip?: readonly number[] | "sixteenth";
}

/**
 * Some layers stay whole; the others share the rest of the total by another budget.
 *
 * @source L2 norm, arXiv 2406.11430, and DBudgetKV, arXiv 2502.16886: both leave layers 0 and 1 of 32 alone.
 *
 * @throws {SpindleKVError} ERR_SPINDLEKV_ARGUMENT when skip is not a list of different layers
 */
export function skipLayers(options: SkipLayersOptions): EvidenceBudget {
  const { budget, skip = "sixteenth" } = options;
  const isList =
    Array.isArray(skip) &&
    new Set(skip).size === skip.length &&
    skip.every((layer) => Number.isInteger(layer) && layer >= 0);
  if (skip !== "sixteenth" && !isList) {
    throw argumentError("skipLayers", 'different layers, or "sixteenth"', "skip", skip);
  }
  return Object.freeze({
    id: "skip-layers",
    kind: "evidence",
    needs: budget.needs,
    options: Object.freeze({
      ...budget.options,
      skipLayers: typeof skip === "string" ? skip : Object.freeze([...skip]),
    }),
    statistics: statisticsOf(budget),
    size: budget.kind === "evidence" ? budget.size : "target",
    cascades: false,
    prepare: async (evidence) => {
      const { layers, context } = evidence;
      const whole = new Set(
        skip === "sixteenth" ? Array.from({ length: Math.floor(layers / 16) }, (_, i) => i) : skip,
      );
      const others = Array.from({ length: layers }, (_, layer) => layer).filter(
        (layer) => !whole.has(layer),
      );
      const planOthers = await preparePlanner(budget, only(evidence, others));
      return async (total) => {
        const rest = Math.max(0, total - (layers - others.length) * context);
        const plan = new Array<LayerPlan>(layers).fill(context);
        const shared = await planOthers(rest);
        others.forEach((layer, index) => {
          plan[layer] = shared[index] ?? 0;
        });
        return plan;
      };
    },
  } satisfies EvidenceBudget);
}

/** The same evidence with some of the layers alone. */
function only(evidence: BudgetEvidence, layers: readonly number[]): BudgetEvidence {
  const at = (index: number) => layers[index] as number;
  return {
    ...evidence,
    layers: layers.length,
    seen: layers.length,
    scores: (index) => evidence.scores(at(index)),
    wholeScores: (index) => evidence.wholeScores(at(index)),
    statistic: (index, name) => evidence.statistic(at(index), name),
    hiddenCosine: (index) => evidence.hiddenCosine(at(index)),
  };
}
