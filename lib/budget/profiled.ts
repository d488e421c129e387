import type { EvidenceBudget } from "../cache/method.js";
import { argumentError } from "../errors.js";
import { cappedShares, largestRemainder } from "./largest-remainder.js";

/** What an offline profile of a model says of each cache. */
export interface BudgetProfile {
  /** Model that was profiled, for reports. */
  readonly model: string;
  /** Importance of each KV head, [layers][kvHeads of all ranks], >= 0. */
  readonly importance: readonly (readonly number[])[];
  /** Exponent of the importance that was found best; > 0. */
  readonly tau: number;
  /** Part of the mean budget that every head gets, in [0, 1]. */
  readonly least: number;
}

/**
 * KV heads get budgets by what an offline profile of the model says of them.
 *
 *   k_lh = least * B + (1 - least) * (total * rows) * I_lh^tau / sum of I^tau,  B = total / L
 *
 * @source BaKlaVa, arXiv 2502.13176 (a table per layer and KV cache, made once); HeadKV, arXiv 2410.19258 (the same
 * shape with retrieval scores of heads as importance).
 *
 * Differs from the papers: what follows from their abstracts and summaries is the shape alone; formula and search grid
 * are this project's (`profileHeads`).
 *
 * Not for another model than the one profiled: the error says so where the shapes differ.
 *
 * @throws {SpindleKVError} ERR_SPINDLEKV_ARGUMENT when the profile is not of this form
 */
export function profiled(profile: BudgetProfile): EvidenceBudget {
  checkProfile(profile);
  const { model, importance, tau, least } = profile;
  return Object.freeze({
    id: "profiled",
    kind: "evidence",
    needs: Object.freeze([]),
    options: Object.freeze({ model, tau, least }),
    statistics: Object.freeze([]),
    size: "target",
    cascades: false,
    prepare: async ({ layers, rows, ranks, rank, scores, sumOverRanks }) => {
      const isFit = importance.length === layers && importance.every((l) => l.length === rows);
      if (!isFit) {
        throw argumentError("profiled", `[${layers}][${rows}] of the cache`, "importance", [
          importance.length,
          importance[0]?.length,
        ]);
      }
      const perRank = rows / ranks;
      const lengths = new Float64Array(layers * rows);
      for (let layer = 0; layer < layers; layer++) {
        (await scores(layer)).forEach((row, index) => {
          lengths[layer * rows + rank * perRank + index] = row.length;
        });
      }
      const caps = Array.from(await sumOverRanks(lengths));
      const weights = importance.flat().map((value) => value ** tau);
      return async (total) => {
        const slots = total * rows;
        const most = caps.reduce((a, b) => a + b, 0);
        const floors = caps.map((cap) => Math.min(cap, (least * total) / layers));
        const given = floors.reduce((a, b) => a + b, 0);
        const room = caps.map((cap, i) => cap - (floors[i] as number));
        const more = cappedShares(weights, Math.max(0, Math.min(slots, most) - given), room);
        const shares = floors.map((floor, i) => floor + (more[i] as number));
        const plan = largestRemainder(shares, slots, caps);
        return Array.from({ length: layers }, (_, layer) => {
          const first = layer * rows + rank * perRank;
          return plan.slice(first, first + perRank);
        });
      };
    },
  } satisfies EvidenceBudget);
}

function checkProfile(profile: BudgetProfile): void {
  const op = "profiled";
  if (typeof profile !== "object" || profile === null) {
    throw argumentError(op, "a profile", "profile", profile);
  }
  const { model, importance, tau, least } = profile;
  if (typeof model !== "string") throw argumentError(op, "a name", "model", model);
  const isTable =
    Array.isArray(importance) &&
    importance.length > 0 &&
    importance.every(
      (layer) =>
        Array.isArray(layer) && layer.every((value) => Number.isFinite(value) && value >= 0),
    );
  if (!isTable)
    throw argumentError(op, "numbers of 0 or more by layer and head", "importance", importance);
  if (!(tau > 0 && Number.isFinite(tau))) throw argumentError(op, "a number above 0", "tau", tau);
  if (!(least >= 0 && least <= 1)) throw argumentError(op, "a number in [0, 1]", "least", least);
}
