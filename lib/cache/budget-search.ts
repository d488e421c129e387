/** One trial of a budget search. */
export interface BudgetTrial {
  /** Ranked slots kept, summed over layers, per KV head. */
  readonly total: number;
  /** Bytes of the whole cache with them. */
  readonly bytes: number;
}

/**
 * Finds the largest total whose bytes stay within the target, or one that uses at least 99.3 % of it.
 *
 * Bytes grow with the total but not smoothly (codebooks, page rounding), so the search keeps a bracket of a
 * total that fits and one that does not, and guesses between them by interpolation, halving where that is slow.
 *
 * @param target bytes not to be exceeded
 * @param most largest total; tried first: where everything fits, nothing goes
 * @param evaluate bytes of a total
 * @returns the best trial that fits, or null when not even total 0 does
 */
export async function searchBudget(
  target: number,
  most: number,
  evaluate: (total: number) => Promise<number>,
): Promise<{ trial: BudgetTrial; evaluations: number } | null> {
  let evaluations = 0;
  const measure = async (total: number): Promise<BudgetTrial> => {
    evaluations += 1;
    return { total, bytes: await evaluate(total) };
  };
  const everything = await measure(most);
  if (everything.bytes <= target) return { trial: everything, evaluations };
  if (most === 0) return null;
  let low = await measure(0);
  if (low.bytes > target) return null;
  let high = everything;
  // Aiming a little below the target makes a hit likelier than a miss.
  const aim = 0.997 * target;
  const enough = 0.993 * target;
  let isStuck = false;
  while (low.bytes < enough && high.total - low.total > 1) {
    const width = high.total - low.total;
    const slope = (high.bytes - low.bytes) / width;
    const guess =
      isStuck || slope <= 0 ? low.total + width / 2 : low.total + (aim - low.bytes) / slope;
    const total = Math.min(high.total - 1, Math.max(low.total + 1, Math.round(guess)));
    const trial = await measure(total);
    if (trial.bytes <= target) low = trial;
    else high = trial;
    isStuck = high.total - low.total > width / 2 && !isStuck;
  }
  return { trial: low, evaluations };
}
