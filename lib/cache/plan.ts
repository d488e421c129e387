/** From a method's budget to the ranked slots of each layer and row. */
import { argumentError, spindleError } from "../errors.js";
import type { CompressionJob } from "./compression-job.js";
import type { KVCache } from "./kv-cache.js";
import type {
  BudgetPart,
  BudgetPlanner,
  BudgetShape,
  EvidenceBudget,
  LayerPlan,
  LayerScores,
  Statistic,
} from "./method.js";

/** Adds numbers up over the ranks that share the model's KV heads; alone they stay as they are. */
export function sumOverRanks(cache: KVCache, values: Float64Array): Promise<Float64Array> {
  const { ranks } = cache.options;
  return ranks === undefined ? Promise.resolve(values) : ranks.allReduce(values);
}

/** {@link sumOverRanks} of one number. */
export async function sumOneOverRanks(cache: KVCache, value: number): Promise<number> {
  return (await sumOverRanks(cache, Float64Array.of(value)))[0] as number;
}

/** What a budget reads of one layer: as it was when all its slots were there. */
export interface LayerEvidence {
  /** Scores of the ranked slots, one array a row. */
  readonly ranked: () => Promise<readonly Float32Array[]>;
  /** Of all slots; where the layer is whole. */
  readonly whole: () => Promise<readonly Float32Array[]>;
  readonly statistics: LayerScores["statistics"];
}

/** Evidence of a layer that is still whole. */
export function evidenceOf(job: CompressionJob, scores: LayerScores): LayerEvidence {
  let copy: Promise<readonly Float32Array[]> | undefined;
  const whole = () => {
    copy ??= rowsOf(scores);
    return copy;
  };
  const ranked = (row: Float32Array) =>
    row.subarray(job.sinks, Math.max(job.sinks, row.length - job.recent));
  return {
    ranked: async () => (await whole()).map(ranked),
    whole,
    statistics: scores.statistics,
  };
}

/**
 * The planner of a budget for the layers of the job.
 *
 * @param rows of this rank, a layer
 */
export async function plannerOf(
  job: CompressionJob,
  budget: BudgetPart,
  layers: readonly LayerEvidence[],
  rows: number,
): Promise<BudgetPlanner> {
  const shape: BudgetShape = {
    layers: job.cache.options.layers,
    context: job.context,
    guarded: job.sinks + job.recent,
  };
  if (budget.kind === "shape") return async (total) => budget.plan(total, shape);
  const { ranks } = job.cache.options;
  const size = ranks?.size ?? 1;
  const statistics = await statisticsOf(job, budget, layers);
  return await budget.prepare({
    ...shape,
    seen: layers.length,
    rows: rows * size,
    rank: ranks?.rank ?? 0,
    ranks: size,
    sinks: job.sinks,
    scores: (layer) => (layers[layer] as LayerEvidence).ranked(),
    wholeScores: (layer) => (layers[layer] as LayerEvidence).whole(),
    statistic: (layer, name) => statistics.get(name)?.[layer] as number,
    hiddenCosine: (layer) => {
      const cosine = job.cache.hiddenCosines[layer]?.mean;
      if (cosine !== undefined) return cosine;
      throw spindleError(
        "ERR_SPINDLEKV_MISSING_INPUT",
        "compress",
        `compress: expected hidden states for budget ${budget.id}, ` +
          `got none observed in layer ${layer} (layer.observe)`,
      );
    },
    sumOverRanks: (values) => sumOverRanks(job.cache, values),
  });
}

/** Every statistic that the budget reads, by layer, over all ranks. */
async function statisticsOf(
  job: CompressionJob,
  budget: EvidenceBudget,
  layers: readonly LayerEvidence[],
): Promise<Map<Statistic, Float64Array>> {
  const found = new Map<Statistic, Float64Array>();
  for (const name of budget.statistics) {
    const own = Float64Array.from(layers, ({ statistics }) => {
      const value = statistics?.[name];
      if (value !== undefined) return value;
      throw spindleError(
        "ERR_SPINDLEKV_MISSING_INPUT",
        "compress",
        `compress: expected the statistic ${name} for budget ${budget.id}, ` +
          `got none from score ${job.score?.id}`,
      );
    });
    found.set(name, await sumOverRanks(job.cache, own));
  }
  return found;
}

/** Host copies of a layer's scores, row by row. */
async function rowsOf({ scores, lengths }: LayerScores): Promise<Float32Array[]> {
  const values = (await scores.read()) as Float32Array;
  const stride = scores.shape[1] as number;
  return lengths.map((length, row) => values.slice(row * stride, row * stride + length));
}

/** Ranked slots per row, summed over layers, of a target in tokens. */
export function rankedTotal(job: CompressionJob, tokens: number): number {
  const guarded = job.sinks + job.recent;
  if (tokens < guarded && tokens < job.context + guarded) {
    throw argumentError(
      "compress",
      `at least the ${guarded} protected slots`,
      "target.tokens",
      tokens,
    );
  }
  return job.cache.options.layers * Math.min(job.context, tokens - guarded);
}

/** Ranked slots per row of each layer, the mean where rows differ. */
export function meanPlan(plan: readonly LayerPlan[]): number[] {
  return plan.map((k) =>
    typeof k === "number" ? k : k.reduce((sum, slots) => sum + slots, 0) / k.length,
  );
}
