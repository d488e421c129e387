import type { EvidenceBudget } from "../cache/method.js";
import { argumentError } from "../errors.js";
import { largestRemainder } from "./largest-remainder.js";
import { slotsOfMasses } from "./slots-of-mass.js";

/** Options of {@link uncertainty}. */
export interface UncertaintyOptions {
  /** Part of a head's attention that its fewest slots must hold, in (0, 1]. Default 0.9. */
  readonly mass?: number;
  /** Least budget of a layer as a fraction of the mean budget, in [0, 1]. Default 0.2. */
  readonly bound?: number;
}

/**
 * Layers whose heads need more slots to hold most of their attention get more.
 *
 *   MBA_h  = fewest slots whose scores sum to `mass` of head h's scores
 *   u_l    = mean over heads of MBA in layer l, divided by the sum of the same over layers
 *   k_l    = bound * B + (B - bound * B) * L * u_l,  B = total / L
 *
 * @source ZigZagKV, arXiv 2412.09036, eq. 6; the bound of 0.2 is that of a public port, the paper's is not known.
 *
 * Differs from ports of it: MBA is taken on the scores of the ranked slots alone (protected ones would distort the
 * mass); what a layer cannot hold goes to the others, so the sum stays exact.
 *
 * @throws {SpindleKVError} ERR_SPINDLEKV_ARGUMENT when an option is out of range
 */
export function uncertainty(options: UncertaintyOptions = {}): EvidenceBudget {
  const { mass = 0.9, bound = 0.2 } = options;
  if (!(mass > 0 && mass <= 1)) {
    throw argumentError("uncertainty", "a number in (0, 1]", "mass", mass);
  }
  if (!(bound >= 0 && bound <= 1)) {
    throw argumentError("uncertainty", "a number in [0, 1]", "bound", bound);
  }
  return Object.freeze({
    id: "uncertainty",
    kind: "evidence",
    needs: Object.freeze([]),
    options: Object.freeze({ mass, bound }),
    statistics: Object.freeze([]),
    size: "target",
    cascades: false,
    prepare: async ({ layers, context, scores, sumOverRanks }) => {
      const own = new Float64Array(layers);
      for (let layer = 0; layer < layers; layer++) {
        for (const row of await scores(layer)) {
          own[layer] = (own[layer] as number) + (slotsOfMasses(row, [mass])[0] as number);
        }
      }
      const needed = await sumOverRanks(own);
      const sum = needed.reduce((a, b) => a + b, 0);
      return async (total) => {
        const mean = total / layers;
        const shares = Array.from(needed, (slots) => {
          const part = sum > 0 ? slots / sum : 1 / layers;
          return bound * mean + (mean - bound * mean) * layers * part;
        });
        return largestRemainder(shares, total, context);
      };
    },
  } satisfies EvidenceBudget);
}
