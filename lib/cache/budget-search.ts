/** One trial of a budget search. */
export interface BudgetTrial {
  /** Ranked slots kept, summed over layers, per KV head. */
  readonly total: number;
  /** Bytes of the whole cache with them. */
  readonly bytes: number;
}

/** What a search asks for of totals: both by parts (layers), as many for every total. */
export interface BudgetCosts {
  /** Bytes of each part; as a rule expensive. */
  readonly bytes: (total: number) => Promise<ArrayLike<number>>;
  /** Slots of each part: what its bytes depend on. Cheap. */
  readonly slots: (total: number) => Promise<ArrayLike<number>>;
  /**
   * Total to begin with, for bytes that take the longer to find the larger the total is: the search extrapolates
   * from there until a total does not fit. Without it the largest is tried first.
   */
  readonly first?: number;
}

/** Share of a target that is worth no further trial. */
export const kEnough = 0.993;

/** Share of the largest total from which on it is tried itself: a few slots are not dropped for a wrong guess. */
const kNearlyAll = 0.98;

/**
 * Finds the largest total whose bytes stay within the target, or one that uses at least 99.3 % of it.
 *
 * Bytes grow with the total but not smoothly (codebooks, page rounding), so the search keeps a bracket of a
 * total that fits and one that does not. It guesses between them by what it knows of each part, goes further than that
 * where an end of the bracket stays, and halves it in the end.
 *
 * @param target bytes not to be exceeded
 * @param most largest total; tried where it may fit: where everything fits, nothing goes
 * @returns the best trial that fits, or null when not even total 0 does
 */
export async function searchBudget(
  target: number,
  most: number,
  costs: BudgetCosts,
): Promise<{ trial: BudgetTrial; evaluations: number } | null> {
  const { first = most } = costs;
  const curves: PartCurve[] = [];
  let evaluations = 0;
  const measure = async (total: number): Promise<BudgetTrial> => {
    evaluations += 1;
    const [slots, bytes] = [await costs.slots(total), await costs.bytes(total)];
    const parts = Array.from(bytes);
    parts.forEach((each, part) => {
      curves[part] ??= new PartCurve();
      curves[part].add(slots[part] as number, each);
    });
    return { total, bytes: parts.reduce((sum, each) => sum + each, 0) };
  };
  const estimate = async (total: number): Promise<number> => {
    const slots = await costs.slots(total);
    return curves.reduce((sum, curve, part) => sum + curve.at(slots[part] as number), 0);
  };
  /** The largest total in [least, end) that is estimated to take at most so many bytes, or `least`. */
  const totalFor = async (bytes: number, least: number, end: number): Promise<number> => {
    let [fits, not] = [least, end];
    while (not - fits > 1) {
      const middle = Math.floor((fits + not) / 2);
      if ((await estimate(middle)) <= bytes) fits = middle;
      else not = middle;
    }
    return fits;
  };

  let high: BudgetTrial | null = null;
  if (first >= most) {
    const everything = await measure(most);
    if (everything.bytes <= target) return { trial: everything, evaluations };
    if (most === 0) return null;
    high = everything;
  }
  let low = await measure(0);
  if (low.bytes > target) return null;
  // Aiming a little below the target makes a hit likelier than a miss.
  const aim = 0.997 * target;
  let steps = { low: 0, high: 0 }; // in a row that moved one end of the bracket and left the other
  for (;;) {
    const end: number = high?.total ?? most + 1;
    if (end - low.total <= 1) break;
    const isEnough = low.bytes >= kEnough * target;
    let total: number;
    if (high !== null) {
      if (isEnough) break;
      const goal = beyond(aim, low.bytes, steps.low) ?? beyond(aim, high.bytes, steps.high) ?? aim;
      const isSlow = Math.max(steps.low, steps.high) > 3;
      total = isSlow ? Math.floor((low.total + end) / 2) : await totalFor(goal, low.total + 1, end);
    } else if (low.total === 0) {
      total = Math.max(1, first);
    } else if ((await totalFor(target, low.total, most + 1)) >= kNearlyAll * most) {
      total = most;
    } else {
      if (isEnough) break;
      total = await totalFor(aim, low.total + 1, end);
    }
    const trial = await measure(total);
    if (trial.bytes > target) {
      steps = { low: 0, high: high === null ? 0 : steps.high + 1 };
      high = trial;
    } else {
      steps = { low: high === null ? 0 : steps.low + 1, high: 0 };
      low = trial;
    }
  }
  return { trial: low, evaluations };
}

/** After steps from one side that came near the aim but not to it: twice as far from there for every step but one. */
function beyond(aim: number, from: number, steps: number): number | undefined {
  return steps < 2 ? undefined : from + (aim - from) * 2 ** (steps - 1);
}

/** Bytes of a part by its slots, from those that are known. */
class PartCurve {
  readonly #points: { slots: number; bytes: number }[] = [];

  add(slots: number, bytes: number): void {
    const at = this.#points.findIndex((point) => point.slots >= slots);
    const isKnown = at >= 0 && this.#points[at]?.slots === slots;
    this.#points.splice(at < 0 ? this.#points.length : at, isKnown ? 1 : 0, { slots, bytes });
  }

  /**
   * Between two points, and beyond the last, by a power of the slots through two of them, above what the least
   * slots take: codewords grow ever slower with the slots. By a line where there is no such power.
   */
  at(slots: number): number {
    const points = this.#points;
    const after = points.findIndex((point) => point.slots >= slots);
    const last = after < 0 ? points.length - 1 : Math.max(after, 1);
    const [none, a, b] = [points[0], points[last - 1], points[last]];
    if (none === undefined || a === undefined || b === undefined) return none?.bytes ?? 0;
    const [least, more] = [a.bytes - none.bytes, b.bytes - none.bytes];
    if (least <= 0 || more <= least || a.slots === 0) {
      return a.bytes + ((b.bytes - a.bytes) * (slots - a.slots)) / (b.slots - a.slots);
    }
    const power = Math.log(more / least) / Math.log(b.slots / a.slots);
    return none.bytes + least * (slots / a.slots) ** power;
  }
}
