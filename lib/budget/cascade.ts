import type { EvidenceBudget } from "../cache/method.js";
import { argumentError } from "../errors.js";
import { cascadeRemainder } from "./largest-remainder.js";
import { significant } from "./significant.js";

/** Options of {@link cascade}. */
export interface CascadeOptions {
  /** Temperature of the entropy, > 0. Default 1. */
  readonly tau1?: number;
  /** Temperature of the variance, > 0. Default 1. */
  readonly tau2?: number;
}

/**
 * Layers share the total by how widely and how unsteadily their heads attend.
 *
 *   H_l = - sum over heads, window queries, context slots of p ln p        spatial dispersion
 *   V_l = sum over heads, context slots of the variance of p over the window's queries   temporal shift
 *   P_l = H_l^(1/tau1) * V_l^(1/tau2)
 *   k_l = total * P_l / sum over the layers seen so far of P
 *
 * A layer's share only falls while later layers come in, and the best slots of a smaller share are among those of a
 * larger one: applied layer by layer it ends where one plan over all layers does.
 *
 * Defaults: tau 1 and 1, what the reference code takes for models that its table does not list.
 *
 * @source CAKE, arXiv 2503.12491, section 3.2 and Theorem 1, and its reference code.
 *
 * Differs from the reference code: shares become integers by largest remainder, so the sum over all layers is exact.
 *
 * @throws {SpindleKVError} ERR_SPINDLEKV_ARGUMENT when a temperature is not above 0
 */
export function cascade(options: CascadeOptions = {}): EvidenceBudget {
  const { tau1 = 1, tau2 = 1 } = options;
  for (const [name, tau] of Object.entries({ tau1, tau2 })) {
    if (!(tau > 0 && Number.isFinite(tau))) {
      throw argumentError("cascade", "a finite number above 0", name, tau);
    }
  }
  return Object.freeze({
    id: "cascade",
    kind: "evidence",
    needs: Object.freeze(["queries"] as const),
    options: Object.freeze({ tau1, tau2 }),
    statistics: Object.freeze(["entropy", "variance"] as const),
    size: "target",
    cascades: true,
    prepare: async ({ seen, layers, context, statistic }) => {
      const importance = Array.from({ length: seen }, (_, layer) =>
        significant(
          Math.max(0, statistic(layer, "entropy")) ** (1 / tau1) *
            Math.max(0, statistic(layer, "variance")) ** (1 / tau2),
        ),
      );
      return async (total) => cascadeRemainder(importance, total, context, seen === layers);
    },
  } satisfies EvidenceBudget);
}
