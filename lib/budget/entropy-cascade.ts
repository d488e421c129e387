import type { EvidenceBudget } from "../cache/method.js";
import { cascadeRemainder } from "./largest-remainder.js";
import { significant } from "./significant.js";

/**
 * Layers share the total by the entropy of their scores: the more evenly a layer spreads what it cares for, the more
 * slots it needs. Inside the layer the heads share by {@link adaptiveHeads}.
 *
 *   p    = scores of all heads of layer l, divided by their sum S
 *   e_l  = - sum p ln p / ln(number of them) = (ln S - sum s ln s / S) / ln(number)
 *   k_l  = total * e_l / sum over the layers seen so far of e
 *
 * @source LAVa, arXiv 2509.09754, and its reference code.
 *
 * Differs from the reference code: exact sums; shares only fall as layers come in (see {@link cascade}).
 */
export function entropyCascade(): EvidenceBudget {
  return Object.freeze({
    id: "entropy-cascade",
    kind: "evidence",
    needs: Object.freeze([]),
    options: Object.freeze({}),
    statistics: Object.freeze([]),
    size: "target",
    cascades: true,
    prepare: async ({ seen, layers, context, scores, sumOverRanks }) => {
      // Per layer: sum of s, of s ln s, and the number of scores.
      const own = new Float64Array(3 * seen);
      for (let layer = 0; layer < seen; layer++) {
        for (const row of await scores(layer)) addMoments(row, own.subarray(3 * layer));
      }
      const all = await sumOverRanks(own);
      const entropies = Array.from({ length: seen }, (_, layer) =>
        normalisedEntropy(all.subarray(3 * layer, 3 * layer + 3)),
      );
      return async (total) => cascadeRemainder(entropies, total, context, seen === layers);
    },
  } satisfies EvidenceBudget);
}

function addMoments(row: Float32Array, moments: Float64Array): void {
  let sum = 0;
  let sumLog = 0;
  for (const value of row) {
    if (!(value > 0)) continue;
    sum += value;
    sumLog += value * Math.log(value);
  }
  moments[0] = (moments[0] as number) + sum;
  moments[1] = (moments[1] as number) + sumLog;
  moments[2] = (moments[2] as number) + row.length;
}

function normalisedEntropy(moments: Float64Array): number {
  const [sum = 0, sumLog = 0, count = 0] = moments;
  if (!(sum > 0) || count < 2) return 0;
  return significant(Math.max(0, Math.log(sum) - sumLog / sum) / Math.log(count));
}
