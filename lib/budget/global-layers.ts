import type { EvidenceBudget } from "../cache/method.js";
import { argumentError } from "../errors.js";
import { cappedLayerCounts } from "./global-threshold.js";
import { cascadeRemainder } from "./largest-remainder.js";

/** Options of {@link globalLayers}. */
export interface GlobalLayersOptions {
  /** Most that a layer may get, as a multiple of the mean budget, >= 1. Default 10. */
  readonly most?: number;
}

/**
 * Layers share the total by where the best scores of all layers and heads are.
 *
 *   c_l = slots of layer l among the best L * H * B of the scores of all layers seen so far, B = total / L, where a
 *         layer that has most * B slots a head is passed over
 *   k_l = c_l / H
 *
 * Default: most 10, as the reference code has it.
 *
 * @source DynamicKV, arXiv 2412.14838, section 3, and its reference code.
 *
 * Differs from the reference code: it takes stock every four layers and mixes counts of one layer with the budget of
 * another; here a layer's share is recomputed with every layer and only falls, which ends at the same place.
 *
 * @throws {SpindleKVError} ERR_SPINDLEKV_ARGUMENT when most is below 1
 */
export function globalLayers(options: GlobalLayersOptions = {}): EvidenceBudget {
  const most = options.most ?? 10;
  if (!(most >= 1)) throw argumentError("globalLayers", "a number of 1 or more", "most", most);
  return Object.freeze({
    id: "global-layers",
    kind: "evidence",
    needs: Object.freeze([]),
    options: Object.freeze({ most }),
    statistics: Object.freeze([]),
    size: "target",
    cascades: true,
    prepare: async ({ seen, layers, context, rows, scores, rank, ranks, sumOverRanks }) => {
      const all: (readonly Float32Array[])[] = [];
      for (let layer = 0; layer < seen; layer++) all.push(await scores(layer));
      return async (total) => {
        const cap = Math.min(context, Math.ceil((most * total) / layers));
        const group = { rank, ranks, sumOverRanks };
        const counts = await cappedLayerCounts(all, total * rows, cap * rows, group);
        const shares = counts.map((count) => count / rows);
        return cascadeRemainder(shares, total, cap, seen === layers);
      };
    },
  } satisfies EvidenceBudget);
}
