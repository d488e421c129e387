import type { EvidenceBudget } from "../cache/method.js";
import { argumentError } from "../errors.js";
import { largestRemainder } from "./largest-remainder.js";
import { threeMeans } from "./three-means.js";

/** Options of {@link squeeze}. */
export interface SqueezeOptions {
  /** Budget of the least important layers as a fraction of the mean budget, in (0, 1]. Default 0.35. */
  readonly p?: number;
}

/**
 * Layers whose attention changes the residual stream least give up budget to the others.
 *
 *   cos_l  = mean over the prompt's tokens of cosine(stream before layer l, the same after its attention)
 *   groups = exact three-means of the L cosines; G3 has the highest mean
 *   k_l    = p * B in G3, (L * B - |G3| * p * B) / (L - |G3|) elsewhere, B = total / L
 *
 * Defaults: p 0.35, the middle of the 0.3 to 0.4 that the paper recommends.
 *
 * @source SqueezeAttention, arXiv 2404.04793, Algorithm 1, and its reference code.
 *
 * Differs from the reference code: k-means is exact instead of seeded at random; budgets follow the prompt's length;
 * the sum is exact. Layers that are all alike keep B each.
 *
 * Cost: the runtime shows the residual stream (`layer.observe`); plans after the last layer.
 *
 * @throws {SpindleKVError} ERR_SPINDLEKV_ARGUMENT when p is not in (0, 1]
 */
export function squeeze(options: SqueezeOptions = {}): EvidenceBudget {
  const p = options.p ?? 0.35;
  if (!(p > 0 && p <= 1)) throw argumentError("squeeze", "a number in (0, 1]", "p", p);
  return Object.freeze({
    id: "squeeze",
    kind: "evidence",
    needs: Object.freeze(["hidden states"] as const),
    options: Object.freeze({ p }),
    statistics: Object.freeze([]),
    size: "target",
    cascades: false,
    prepare: async ({ layers, context, hiddenCosine }) => {
      const groups = threeMeans(Array.from({ length: layers }, (_, layer) => hiddenCosine(layer)));
      const least = groups.filter((group) => group === 2).length;
      return async (total) => {
        if (least === layers) return largestRemainder(groups, total, context);
        const high = (layers - least * p) / (layers - least);
        const shares = groups.map((group) => (group === 2 ? p : high));
        return largestRemainder(shares, total, context);
      };
    },
  } satisfies EvidenceBudget);
}
