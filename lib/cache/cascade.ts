/** Compression layer by layer while the prompt goes through the model: one layer is whole at a time. */
import { argumentError } from "../errors.js";
import { Tensor } from "../tensor.js";
import type { KeptIndices } from "./attention-sums.js";
import { commitPlan, type PlannedLayer } from "./commit-plan.js";
import { setLimits } from "./compress.js";
import { type CompressionJob, prepareJob } from "./compression-job.js";
import type { KVCache } from "./kv-cache.js";
import { isMaintained, type LayerScores, statisticsOf } from "./method.js";
import { storeAddon } from "./native-store.js";
import { evidenceOf, type LayerEvidence, plannerOf, rankedTotal, sumOneOverRanks } from "./plan.js";
import { scoreLayer } from "./score-layer.js";
import { rowCounts } from "./selection.js";
import { cascadeTotal, targetBytes } from "./size.js";

/** What is kept of a layer on the host: a few bytes a slot and head. */
interface ScoredLayer {
  /** Of the whole layer, for the budget. */
  readonly evidence: LayerEvidence;
  /** Scores of the slots that the layer still holds. */
  readonly rows: readonly Float32Array[];
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
 * the best k: the last layer leaves what `compress()` would have left of the whole prompt. Layers change one after the
 * other; a call that failed may be made again.
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
    const statistics = statisticsOf(budget);
    const newest = await scoreLayer(job, layer, statistics);
    scored.push(newest);
    if (newest.group > 1) {
      throw argumentError("compress", 'one ranking per KV head for "per-layer"', "group", "unfold");
    }
    const { layers, kvHeads, headDim } = cache.options;
    const nativeBytes = await sumOneOverRanks(cache, layers * tokens * kvHeads * headDim * 4);
    const total =
      "tokens" in target
        ? rankedTotal(job, target.tokens)
        : await cascadeTotal(job, scored, targetBytes(target, nativeBytes) as number, nativeBytes);
    const ownEvidence = evidenceOf(job, newest);
    await ownEvidence.whole(); // the scores go with this stage; the copy stays
    const evidence = [...cascade.layers.map((each) => each.evidence), ownEvidence];
    const planner = await plannerOf(job, budget, evidence, newest.lengths.length);
    const plan = await planner(total);
    // One layer after the other: what is kept of a layer is there twice for a moment, and only of that layer.
    for (const [index, scores] of scored.entries()) {
      const rows = await shrink(job, { layer: index, scores, plan: plan[index] ?? 0 });
      cascade.layers[index] = { evidence: evidence[index] as LayerEvidence, rows };
    }
    if (seen === layers) {
      if (isMaintained(method)) setLimits(cache, { hasEvicted: true });
      else storeAddon().storeReleaseQueries(cache);
      cascade.finish(tokens);
    }
  } finally {
    for (const { scores } of scored) scores.dispose();
  }
}

/** Commits one layer; the scores of the slots that it then holds. */
async function shrink(job: CompressionJob, planned: PlannedLayer): Promise<Float32Array[]> {
  const { layer, scores, plan } = planned;
  const counts = rowCounts(plan, scores.lengths.length);
  const guarded = job.sinks + job.recent;
  const before = job.cache.cascade.layers[layer];
  const isFit = scores.lengths.every((slots, row) => slots - guarded <= (counts[row] as number));
  if (isFit && before !== undefined) return [...before.rows];
  const [kept] = await commitPlan(job, [planned], null);
  return await keptRows(scores, kept as KeptIndices);
}

/** Rows of a layer on the device again. */
function tensorOf(cache: KVCache, { rows }: ScoredLayer): LayerScores {
  const lengths = rows.map((row) => row.length);
  const longest = Math.max(...lengths, 1);
  const values = new Float32Array(rows.length * longest);
  rows.forEach((row, index) => {
    values.set(row, index * longest);
  });
  const scores = Tensor.from(cache.device, "f32", [rows.length, longest], values);
  return { scores, lengths, group: 1 };
}

async function keptRows(
  { scores }: LayerScores,
  { indices, stride, counts }: KeptIndices,
): Promise<Float32Array[]> {
  const values = (await scores.read()) as Float32Array;
  const width = scores.shape[1] as number;
  return counts.map((count, row) =>
    Float32Array.from({ length: count }, (_, i) => {
      const slot = indices[row * stride + i] as number;
      return values[row * width + slot] as number;
    }),
  );
}
