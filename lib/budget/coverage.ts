import type { EvidenceBudget } from "../cache/method.js";
import { argumentError } from "../errors.js";

/** Options of {@link coverage}. */
export interface CoverageOptions {
  /** Part of the norm of a row that may go, in [0, 1). Default 0.01 (paper). */
  readonly loss?: number;
  /** Slots behind the sinks that stay at least. Default 32. */
  readonly least?: number;
}

/**
 * Every row keeps its sinks and the fewest of its newest slots that hold its attention: a window that finds its own
 * size.
 *
 *   order = sinks, then newest to oldest;  c_i = sqrt(sum of the first i squares of a in that order);  F = c_n
 *   keep the smallest i with (F - c_i) / F <= loss, and `least` slots behind the sinks in any case
 *
 * Defaults: loss 0.01 (paper); least 32, because one sink with nine tenths of the attention satisfies the rule alone.
 *
 * @source DBudgetKV / ReFreeKV, arXiv 2502.16886v3, section 3 (text; its Algorithm 1 contradicts it).
 *
 * Differs from the paper: the least window. Rows of a group share their slots: the longest suffix is stored.
 *
 * @throws {SpindleKVError} ERR_SPINDLEKV_ARGUMENT when an option is out of range
 */
export function coverage(options: CoverageOptions = {}): EvidenceBudget {
  const { loss = 0.01, least = 32 } = options;
  if (!(loss >= 0 && loss < 1)) {
    throw argumentError("coverage", "a number in [0, 1)", "loss", loss);
  }
  if (!Number.isInteger(least) || least < 0) {
    throw argumentError("coverage", "an integer of 0 or more", "least", least);
  }
  return Object.freeze({
    id: "coverage",
    kind: "evidence",
    needs: Object.freeze([]),
    options: Object.freeze({ loss, least }),
    statistics: Object.freeze([]),
    size: "own",
    cascades: false,
    prepare: async ({ seen, sinks, wholeScores }) => {
      const plan: number[][] = [];
      for (let layer = 0; layer < seen; layer++) {
        const rows = await wholeScores(layer);
        plan.push(rows.map((row) => Math.max(suffixOf(row, sinks, loss), least)));
      }
      return async () => plan.map((rows) => [...rows]);
    },
  } satisfies EvidenceBudget);
}

/** Newest slots that a row needs beside its sinks. */
function suffixOf(row: Float32Array, sinks: number, loss: number): number {
  const norm = Math.sqrt(row.reduce((sum, value) => sum + value * value, 0));
  let held = 0;
  for (let slot = 0; slot < Math.min(sinks, row.length); slot++) held += (row[slot] as number) ** 2;
  let count = 0;
  while (sinks + count < row.length && norm - Math.sqrt(held) > loss * norm) {
    held += (row[row.length - 1 - count] as number) ** 2;
    count += 1;
  }
  return count;
}
