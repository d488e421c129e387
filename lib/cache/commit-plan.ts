/** Applies a plan to the cache: all layers that it names change, or none. */
import type { KeptIndices } from "./attention-sums.js";
import { type CompressionJob, throwIfAborted } from "./compression-job.js";
import type { LayerCovers } from "./layer-covers.js";
import type { LayerPlan, LayerScores } from "./method.js";
import { storeAddon } from "./native-store.js";
import { rewrite, type Thetas } from "./rewrite.js";

/** What one layer is to keep. */
export interface PlannedLayer {
  readonly layer: number;
  readonly scores: LayerScores;
  /** Ranked slots of each row. */
  readonly plan: LayerPlan;
}

/** A plan of the first layers. */
export function layerPlans(
  scores: readonly LayerScores[],
  plan: readonly LayerPlan[],
): PlannedLayer[] {
  return scores.map((layerScores, layer) => ({
    layer,
    scores: layerScores,
    plan: plan[layer] ?? 0,
  }));
}

/**
 * Selects, moves and encodes in a draft and commits it at the end; sums of attention follow their slots.
 *
 * @param covers of the same slots and thetas, where a trial found them
 * @returns the slots that stayed
 */
export async function commitPlan(
  job: CompressionJob,
  layers: readonly PlannedLayer[],
  thetas: Thetas | null,
  onProgress: (done: number) => void = () => undefined,
  covers: LayerCovers | null = null,
): Promise<KeptIndices[]> {
  const { cache } = job;
  const addon = storeAddon();
  const draft = {};
  addon.draftCreate(draft, cache);
  try {
    const kept = await rewrite(job, layers, thetas, covers, draft, onProgress);
    throwIfAborted(job.signal);
    const sums = cache.sums?.keeping(
      kept,
      cache.layers.map(({ slots }) => Math.max(...slots)),
    );
    try {
      addon.draftCommit(draft);
    } catch (error) {
      sums?.[Symbol.dispose]();
      throw error;
    }
    if (sums !== undefined) cache.sums?.replace(sums);
    cache.forgetSimilarity();
    return kept;
  } finally {
    addon.draftDispose(draft);
  }
}
