/** Compression layer by layer while the prompt goes through the model: one layer is whole at a time. */
import { argumentError } from "../errors.js";
import { Tensor } from "../tensor.js";
import type { KeptIndices } from "./attention-sums.js";
import { commitPlan, type PlannedLayer } from "./commit-plan.js";
import { prepareJob } from "./compression-job.js";
import type { KVCache } from "./kv-cache.js";
import type { BudgetPart, LayerPlan, LayerScores, Statistic } from "./method.js";
import { storeAddon } from "./native-store.js";
import { plannerOf, rankedTotal, sumOneOverRanks } from "./plan.js";
import { scoreLayer } from "./score-layer.js";
import { cascadeTotal, targetBytes } from "./size.js";

/** Scores of the slots that a layer still holds. */
interface ScoredLayer {
  readonly rows: readonly Float32Array[];
  readonly statistics: Readonly<Partial<Record<Statistic, number>>>;
}

/** How far a cache's cascade has come. */
export class Cascade {
  readonly layers: ScoredLayer[] = [];
  #doneAt = -1;

  /** Whether every layer was compressed with the last of so many tokens. */
  isDone(tokens: number): boolean {
    return this.#doneAt === tokens && tokens > 0;
  }

  finish(tokens: number): void {
    this.layers.length = 0;
    this.#doneAt = tokens;
  }
}

/**
 * Compresses the layers up to `layer` to what the budget gives them so far.
 *
 * A budget that cascades only takes from earlier layers as later ones come in, and the best k of the best k' > k are
 * the best k: the last layer leaves what `compress()` would have left of the whole prompt.
 *
 * @throws {SpindleKVError} ERR_SPINDLEKV_ARGUMENT when the method does not cascade or a layer was left out
 */
export async function compressLayer(cache: KVCache, layer: number): Promise<void> {
  const { method, cascade } = cache;
  const { budget, select, target } = method;
  if (method.schedule !== "per-layer" || budget === null || select === null || target === null) {
    throw argumentError("compress", 'a method with schedule "per-layer"', "method", method.id);
  }
  if (cascade.layers.length !== layer) {
    throw argumentError("compress", `layer ${cascade.layers.length} next`, "layer", layer);
  }
  const seen = layer + 1;
  const job = prepareJob(cache, select, method.score, seen, undefined);
  const tokens = job.infos[layer]?.position ?? 0;
  if (tokens < method.minTokens || tokens === 0) return;
  const scored = cascade.layers.map((each) => tensorOf(cache, each));
  try {
    const statistics = budget.kind === "evidence" ? budget.statistics : [];
    const newest = await scoreLayer(job, layer, statistics);
    scored.push(newest);
    if (newest.group > 1) {
      throw argumentError("compress", 'one ranking per KV head for "per-layer"', "group", "unfold");
    }
    const { layers, kvHeads, headDim } = cache.options;
    const nativeBytes = await sumOneOverRanks(job, layers * tokens * kvHeads * headDim * 4);
    const total =
      "tokens" in target
        ? rankedTotal(job, target.tokens)
        : await cascadeTotal(job, scored, targetBytes(target, nativeBytes) as number, nativeBytes);
    const plan = await planFor(job, budget, scored, total);
    const planned: PlannedLayer[] = scored.map((scores, index) => ({
      layer: index,
      scores,
      plan: plan[index] ?? 0,
    }));
    const kept = await commitPlan(job, planned, null);
    cascade.layers.length = 0;
    for (const [index, scores] of scored.entries()) {
      cascade.layers.push(await keptOf(scores, kept[index] as KeptIndices));
    }
    if (seen === layers) {
      storeAddon().storeReleaseQueries(cache);
      cascade.finish(tokens);
    }
  } finally {
    for (const { scores } of scored) scores.dispose();
  }
}

async function planFor(
  job: Parameters<typeof plannerOf>[0],
  budget: BudgetPart,
  scored: readonly LayerScores[],
  total: number,
): Promise<LayerPlan[]> {
  const planner = await plannerOf(job, budget, scored);
  return await planner(total);
}

/** Rows of a layer on the device again. */
function tensorOf(cache: KVCache, { rows, statistics }: ScoredLayer): LayerScores {
  const lengths = rows.map((row) => row.length);
  const longest = Math.max(...lengths, 1);
  const values = new Float32Array(rows.length * longest);
  rows.forEach((row, index) => {
    values.set(row, index * longest);
  });
  const scores = Tensor.from(cache.device, "f32", [rows.length, longest], values);
  return { scores, lengths, group: 1, statistics };
}

async function keptOf(
  { scores, statistics = {} }: LayerScores,
  { indices, stride, counts }: KeptIndices,
): Promise<ScoredLayer> {
  const values = (await scores.read()) as Float32Array;
  const width = scores.shape[1] as number;
  const rows = counts.map((count, row) =>
    Float32Array.from({ length: count }, (_, i) => {
      const slot = indices[row * stride + i] as number;
      return values[row * width + slot] as number;
    }),
  );
  return { rows, statistics };
}
