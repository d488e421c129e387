import type { ShapeBudget } from "../cache/method.js";
import { argumentError } from "../errors.js";
import { largestRemainder } from "./largest-remainder.js";

/** Options of {@link pyramid}. */
export interface PyramidOptions {
  /** The last layer keeps B / beta of the mean budget B; > 1. Default 20. */
  readonly beta?: number;
}

/**
 * Budgets that fall linearly with depth.
 *
 *   B = total / L;  last = B / beta;  first = 2 B - last;  if first >= context: first = context, last = 2 B - context
 *   k_l = first + (last - first) * l / (L - 1);  uniform where the prompt (context and protected slots) is shorter than 2 B
 *
 * @source PyramidKV, arXiv 2406.02069, section 4.1, and its reference code.
 *
 * Differs from the reference code: the steps are not truncated to integers, which there spends up to 13 % more
 * slots than asked for; the sum is exact by largest remainder.
 *
 * @throws {SpindleKVError} ERR_SPINDLEKV_ARGUMENT when beta is not above 1
 */
export function pyramid(options: PyramidOptions = {}): ShapeBudget {
  const beta = options.beta ?? 20;
  if (!(beta > 1)) throw argumentError("pyramid", "a number above 1", "beta", beta);
  return Object.freeze({
    id: "pyramid",
    kind: "shape",
    needs: Object.freeze([]),
    options: Object.freeze({ beta }),
    plan: (total, { layers, context, guarded }) => {
      const mean = total / layers;
      let last = mean / beta;
      let first = 2 * mean - last;
      if (context + guarded < 2 * mean || layers === 1) {
        first = last = mean;
      } else if (first >= context) {
        first = context;
        last = 2 * mean - context;
      }
      const shares = Array.from({ length: layers }, (_, l) =>
        layers === 1 ? mean : first + ((last - first) * l) / (layers - 1),
      );
      return largestRemainder(shares, total, context);
    },
  } satisfies ShapeBudget);
}
