/** One trial of a budget search. */
export interface BudgetTrial {
  /** Ranked slots kept, summed over layers, per KV head. */
  readonly total: number;
  /** Bytes of the whole cache with them. */
  readonly bytes: number;
}

/** Share of a target that is worth no further trial. */
export const kEnough = 0.993;

/** Share of the largest total from which on it is tried itself: a few slots are not dropped for a wrong guess. */
const kNearlyAll = 0.98;

/**
 * Finds the largest total whose bytes stay within the target, or one that uses at least 99.3 % of it.
 *
 * Bytes grow with the total but not smoothly (codebooks, page rounding), so the search keeps a bracket of a
 * total that fits and one that does not, and guesses between them by interpolation.
 *
 * @param target bytes not to be exceeded
 * @param most largest total; tried where it may fit: where everything fits, nothing goes
 * @param evaluate bytes of a total
 * @param first total to begin with, for bytes that take the longer to find the larger the total is: the search
 * extrapolates from there until a total does not fit. Without it `most` is tried first
 * @returns the best trial that fits, or null when not even total 0 does
 */
export async function searchBudget(
  target: number,
  most: number,
  evaluate: (total: number) => Promise<number>,
  first = most,
): Promise<{ trial: BudgetTrial; evaluations: number } | null> {
  let evaluations = 0;
  const measure = async (total: number): Promise<BudgetTrial> => {
    evaluations += 1;
    return { total, bytes: await evaluate(total) };
  };
  let high: BudgetTrial | null = null;
  if (first >= most) {
    const everything = await measure(most);
    if (everything.bytes <= target) return { trial: everything, evaluations };
    if (most === 0) return null;
    high = everything;
  }
  const none = await measure(0);
  if (none.bytes > target) return null;
  // Aiming a little below the target makes a hit likelier than a miss.
  const aim = 0.997 * target;
  let before = none;
  let low = none;
  let steps = { low: 0, high: 0 }; // in a row that moved one end of the bracket and left the other
  for (;;) {
    const end: number = high?.total ?? most + 1;
    if (end - low.total <= 1) break;
    const isEnough = low.bytes >= kEnough * target;
    let guess: number;
    if (high !== null) {
      if (isEnough) break;
      guess = totalAt(aim, none, towards(aim, low, steps.high), towards(aim, high, steps.low));
    } else if (low === none) {
      guess = first;
    } else if (totalAt(target, none, before, low) >= kNearlyAll * most) {
      guess = most;
    } else {
      if (isEnough) break;
      guess = totalAt(aim, none, before, low);
    }
    const total = Math.min(end - 1, Math.max(low.total + 1, Math.round(guess)));
    const trial = await measure(total);
    if (trial.bytes > target) {
      steps = { low: 0, high: high === null ? 0 : steps.high + 1 };
      high = trial;
    } else {
      steps = { low: high === null ? 0 : steps.low + 1, high: 0 };
      [before, low] = [low, trial];
    }
  }
  return { trial: low, evaluations };
}

/**
 * An end of the bracket that the last steps left where it was: as if its bytes were nearer, by half for every step
 * after the first, so that the next guess comes nearer to it (the Illinois variant of false position).
 */
function towards(aim: number, end: BudgetTrial, steps: number): BudgetTrial {
  const share = 2 ** -Math.max(0, steps - 1);
  return { total: end.total, bytes: aim + (end.bytes - aim) * share };
}

/** The total at which a power of it through two trials, above the bytes of none, comes to `bytes`; else a line. */
function totalAt(bytes: number, none: BudgetTrial, a: BudgetTrial, b: BudgetTrial): number {
  const [least, more, wanted] = [a.bytes - none.bytes, b.bytes - none.bytes, bytes - none.bytes];
  if (more <= least) return Number.POSITIVE_INFINITY;
  if (a.total === 0 || least <= 0 || wanted <= 0) {
    return a.total + ((b.total - a.total) * (wanted - least)) / (more - least);
  }
  const power = Math.log(more / least) / Math.log(b.total / a.total);
  return a.total * (wanted / least) ** (1 / power);
}
