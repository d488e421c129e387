/** From a method's budget to the ranked slots of each layer and row. */
import { argumentError, spindleError } from "../errors.js";
import type { CompressionJob } from "./compression-job.js";
import type {
  BudgetEvidence,
  BudgetPart,
  BudgetPlanner,
  BudgetShape,
  EvidenceBudget,
  LayerScores,
  Statistic,
} from "./method.js";

/** Adds numbers up over the ranks that share the model's KV heads; alone they stay as they are. */
export function sumOverRanks(job: CompressionJob, values: Float64Array): Promise<Float64Array> {
  const { ranks } = job.cache.options;
  return ranks === undefined ? Promise.resolve(values) : ranks.allReduce(values);
}

/** {@link sumOverRanks} of one number. */
export async function sumOneOverRanks(job: CompressionJob, value: number): Promise<number> {
  return (await sumOverRanks(job, Float64Array.of(value)))[0] as number;
}

/** The planner of a budget for the layers of the job. */
export async function plannerOf(
  job: CompressionJob,
  budget: BudgetPart,
  scores: readonly LayerScores[],
): Promise<BudgetPlanner> {
  const shape: BudgetShape = {
    layers: job.cache.options.layers,
    context: job.context,
    guarded: job.sinks + job.recent,
  };
  if (budget.kind === "shape") return async (total) => budget.plan(total, shape);
  return await budget.prepare(await evidenceOf(job, budget, scores, shape));
}

async function evidenceOf(
  job: CompressionJob,
  budget: EvidenceBudget,
  scores: readonly LayerScores[],
  shape: BudgetShape,
): Promise<BudgetEvidence> {
  const { cache } = job;
  const { ranks } = cache.options;
  const statistics = await statisticsOf(job, budget, scores);
  const copies: (Promise<Float32Array[]> | undefined)[] = [];
  return {
    ...shape,
    seen: scores.length,
    rows: (scores[0]?.lengths.length ?? 0) * (ranks?.size ?? 1),
    rank: ranks?.rank ?? 0,
    ranks: ranks?.size ?? 1,
    scores: (layer) => {
      copies[layer] ??= rankedScores(job, scores[layer] as LayerScores);
      return copies[layer] as Promise<Float32Array[]>;
    },
    statistic: (layer, name) => statistics.get(name)?.[layer] as number,
    hiddenCosine: (layer) => {
      const cosine = cache.hiddenCosines[layer]?.mean;
      if (cosine !== undefined) return cosine;
      throw spindleError(
        "ERR_SPINDLEKV_MISSING_INPUT",
        "compress",
        `compress: expected hidden states for budget ${budget.id}, ` +
          `got none observed in layer ${layer} (layer.observe)`,
      );
    },
    sumOverRanks: (values) => sumOverRanks(job, values),
  };
}

/** Every statistic that the budget reads, by layer, over all ranks. */
async function statisticsOf(
  job: CompressionJob,
  budget: EvidenceBudget,
  scores: readonly LayerScores[],
): Promise<Map<Statistic, Float64Array>> {
  const found = new Map<Statistic, Float64Array>();
  for (const name of budget.statistics) {
    const own = Float64Array.from(scores, ({ statistics }) => {
      const value = statistics?.[name];
      if (value !== undefined) return value;
      throw spindleError(
        "ERR_SPINDLEKV_MISSING_INPUT",
        "compress",
        `compress: expected the statistic ${name} for budget ${budget.id}, ` +
          `got none from score ${job.score?.id}`,
      );
    });
    found.set(name, await sumOverRanks(job, own));
  }
  return found;
}

/** Host copies of the scores of the slots that are ranked. */
async function rankedScores(
  job: CompressionJob,
  { scores, lengths }: LayerScores,
): Promise<Float32Array[]> {
  const values = (await scores.read()) as Float32Array;
  const stride = scores.shape[1] as number;
  return lengths.map((length, row) => {
    const end = Math.max(job.sinks, length - job.recent);
    return values.slice(row * stride + job.sinks, row * stride + end);
  });
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
