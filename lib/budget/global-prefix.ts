import type { EvidenceBudget } from "../cache/method.js";
import { largestRemainder } from "./largest-remainder.js";
import { slotsOfMasses } from "./slots-of-mass.js";

/** Masses at which the curves are known; between them they are taken as straight. */
const kGrid = 256;
const kMasses = Array.from({ length: kGrid + 1 }, (_, i) => i / kGrid);

/**
 * Every layer keeps the fewest of its best slots that hold one and the same part p of its attention; p is what makes
 * the sum come out.
 *
 *   P_l(o) = attention of the o best slots of a head / attention of all its ranked slots
 *   k_l    = mean over heads of the smallest o with P_l(o) >= p;  p so that the k_l sum to the total
 *
 * @source PrefixKV, arXiv 2412.03409, section 3.2, and its reference code (online form).
 *
 * Differs from the reference code: bisection of p cannot run forever and the sum is exact; protected slots are left out
 * of the mass, because one sharp sink makes p meaningless for its layer. The curves are exchanged and read at 256
 * masses.
 */
export function globalPrefix(): EvidenceBudget {
  return Object.freeze({
    id: "global-prefix",
    kind: "evidence",
    needs: Object.freeze([]),
    options: Object.freeze({}),
    statistics: Object.freeze([]),
    size: "target",
    cascades: false,
    prepare: async ({ layers, context, rows, scores, sumOverRanks }) => {
      const width = kGrid + 1;
      const own = new Float64Array(layers * width);
      for (let layer = 0; layer < layers; layer++) {
        const curve = own.subarray(layer * width, (layer + 1) * width);
        for (const row of await scores(layer)) {
          slotsOfMasses(row, kMasses).forEach((count, i) => {
            curve[i] = (curve[i] as number) + count;
          });
        }
      }
      const curves = await sumOverRanks(own);
      const slotsAt = (p: number) =>
        Array.from({ length: layers }, (_, layer) => {
          const curve = curves.subarray(layer * width, (layer + 1) * width);
          return valueAt(curve, p) / rows;
        });
      return async (total) => {
        let low = 0;
        let high = 1;
        for (let round = 0; round < 60; round++) {
          const p = (low + high) / 2;
          const sum = slotsAt(p).reduce((a, b) => a + b, 0);
          if (sum <= total) low = p;
          else high = p;
        }
        return largestRemainder(slotsAt(low), total, context);
      };
    },
  } satisfies EvidenceBudget);
}

function valueAt(curve: Float64Array, p: number): number {
  const at = p * kGrid;
  const below = Math.min(kGrid - 1, Math.floor(at));
  const low = curve[below] as number;
  const high = curve[below + 1] as number;
  return low + (high - low) * (at - below);
}
