import type { ShapeBudget } from "../cache/method.js";
import { argumentError } from "../errors.js";
import { largestRemainder } from "./largest-remainder.js";

/** Options of {@link spindlePyramid}. */
export interface SpindlePyramidOptions {
  /** Fraction of the context that the last layer keeps at least, in (0, 1). Default 0.05 (paper). */
  readonly beta?: number;
}

/**
 * SpindleKV's layer budgets: linear in depth, anchored at the fraction beta in the last layer, until the first
 * layer is full; from there anchored at 1 in the first.
 *
 *   r = total / (L * context);  alpha = (1 + beta) / 2
 *   beta < r <= alpha:  first = 2 r - beta, last = beta
 *   alpha < r <= 1:     first = 1,          last = 2 r - 1
 *   r <= beta:          uniform r (the paper gives no rule)
 *   k_l = (first + (last - first) * l / (L - 1)) * context
 *
 * @source SpindleKV, arXiv 2507.06517, eq. 5-6; the sign of the second branch is corrected (printed 1 - 2 r is
 * negative and breaks the mean).
 *
 * @throws {SpindleKVError} ERR_SPINDLEKV_ARGUMENT when beta is not in (0, 1)
 */
export function spindlePyramid(options: SpindlePyramidOptions = {}): ShapeBudget {
  const beta = options.beta ?? 0.05;
  if (!(beta > 0 && beta < 1)) {
    throw argumentError("spindlePyramid", "a number in (0, 1)", "beta", beta);
  }
  return Object.freeze({
    id: "spindle-pyramid",
    kind: "shape",
    needs: Object.freeze([]),
    options: Object.freeze({ beta }),
    plan: (total, { layers, context }) => {
      const r = context === 0 ? 0 : Math.min(1, total / (layers * context));
      let first = r;
      let last = r;
      if (r > (1 + beta) / 2) {
        first = 1;
        last = 2 * r - 1;
      } else if (r > beta) {
        first = 2 * r - beta;
        last = beta;
      }
      const shares = Array.from({ length: layers }, (_, l) =>
        layers === 1 ? r : first + ((last - first) * l) / (layers - 1),
      );
      return largestRemainder(shares, total, context);
    },
  } satisfies ShapeBudget);
}
