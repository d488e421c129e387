import {
  type BudgetEvidence,
  type BudgetPart,
  type EvidenceBudget,
  type LayerPlan,
  preparePlanner,
  statisticsOf,
} from "../cache/method.js";
import { argumentError } from "../errors.js";
import { globalCounts } from "./global-threshold.js";
import { cascadeRemainder } from "./largest-remainder.js";

/** Options of {@link adaptiveHeads}. */
export interface AdaptiveHeadsOptions {
  /** Budget of the layers, whose heads then share what it gives. */
  readonly layers: BudgetPart;
  /** Part of the layer's mean that every head gets whatever its scores, in [0, 1]. Default 0.2. */
  readonly floor?: number;
}

/**
 * Heads of a layer share its budget by where its best scores are.
 *
 *   c_h = slots of head h among the best H * k of the layer's H rows together
 *   k_h = (1 - floor) * c_h + floor * k, made integers with the exact sum H * k
 *
 * @source Ada-KV, arXiv 2407.11550, Algorithm 1, and its reference code (safeguard 0.2).
 *
 * Differs from the reference code: it rounds every head on its own, which is off by up to half a slot a head; the
 * sum here is exact. A head never gets more than its slots; what it cannot hold goes to the others.
 *
 * @throws {SpindleKVError} ERR_SPINDLEKV_ARGUMENT when floor is not in [0, 1]
 */
export function adaptiveHeads(options: AdaptiveHeadsOptions): EvidenceBudget {
  const { layers, floor = 0.2 } = options;
  if (!(floor >= 0 && floor <= 1)) {
    throw argumentError("adaptiveHeads", "a number in [0, 1]", "floor", floor);
  }
  if (typeof layers?.id !== "string" || (layers.kind === "evidence" && layers.size === "own")) {
    throw argumentError("adaptiveHeads", "a budget that splits a target", "layers", layers?.id);
  }
  return Object.freeze({
    id: "adaptive-heads",
    kind: "evidence",
    needs: layers.needs,
    options: Object.freeze({ layers: layers.id, ...layers.options, floor }),
    statistics: statisticsOf(layers),
    size: "target",
    cascades: layers.kind === "shape" || layers.cascades,
    prepare: async (evidence) => {
      const planLayers = await preparePlanner(layers, evidence);
      return async (total) => {
        const perLayer = await planLayers(total);
        const plan: LayerPlan[] = [];
        for (let layer = 0; layer < evidence.seen; layer++) {
          const k = perLayer[layer] ?? 0;
          if (typeof k !== "number") {
            throw argumentError("adaptiveHeads", "one number a layer", "layers", layers.id);
          }
          plan.push(await splitOverHeads(evidence, layer, k, floor));
        }
        return plan;
      };
    },
  } satisfies EvidenceBudget);
}

/** k slots a row, over the rows of one layer on all ranks; the own rows' shares. */
async function splitOverHeads(
  evidence: BudgetEvidence,
  layer: number,
  k: number,
  floor: number,
): Promise<number[]> {
  const rows = await evidence.scores(layer);
  const { rank, ranks, sumOverRanks } = evidence;
  const first = rank * rows.length;
  const [own = []] = await globalCounts([rows], k * evidence.rows, { rank, ranks, sumOverRanks });
  // Every rank needs all heads' shares to round them alike: a number a head.
  const counts = new Float64Array(2 * evidence.rows);
  rows.forEach((row, index) => {
    counts[first + index] = own[index] as number;
    counts[evidence.rows + first + index] = row.length;
  });
  const all = await sumOverRanks(counts);
  const shares = Array.from(
    all.subarray(0, evidence.rows),
    (count) => (1 - floor) * count + floor * k,
  );
  const caps = Array.from(all.subarray(evidence.rows));
  const isLast = evidence.seen === evidence.layers;
  const plan = cascadeRemainder(shares, k * evidence.rows, caps, isLast);
  return plan.slice(first, first + rows.length);
}
