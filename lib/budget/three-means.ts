/**
 * The best split of numbers on a line into three groups: least sum of squared distances to the groups' means, found by
 * trying every pair of cuts of the sorted numbers. Equal sums: the smaller first cut, then the smaller second.
 *
 * @param values at least one finite number
 * @returns the group of each value, 0..2 by ascending mean; with fewer than three different values fewer groups: then
 *   the largest values are in group 2, and nothing is in group 1 (two values) or 0 and 1 (one value)
 */
export function threeMeans(values: readonly number[]): number[] {
  const order = values.map((_, index) => index);
  order.sort((a, b) => (values[a] as number) - (values[b] as number) || a - b);
  const sorted = order.map((index) => values[index] as number);
  const cuts = [0];
  for (let i = 1; i < sorted.length; i++) if (sorted[i] !== sorted[i - 1]) cuts.push(i);
  const [first, second] = bestCuts(sorted, cuts);
  const groups = new Array<number>(values.length).fill(2);
  order.forEach((index, place) => {
    if (place < first) groups[index] = 0;
    else if (place < second) groups[index] = 1;
  });
  return groups;
}

/** Places where group 1 and group 2 begin; groups never part equal values. */
function bestCuts(sorted: readonly number[], cuts: readonly number[]): [number, number] {
  if (cuts.length === 1) return [0, 0];
  if (cuts.length === 2) return [cuts[1] as number, cuts[1] as number];
  let best: [number, number] = [cuts[1] as number, cuts[2] as number];
  let least = Number.POSITIVE_INFINITY;
  for (let a = 1; a < cuts.length; a++) {
    for (let b = a + 1; b < cuts.length; b++) {
      const first = cuts[a] as number;
      const second = cuts[b] as number;
      const cost =
        spread(sorted, 0, first) +
        spread(sorted, first, second) +
        spread(sorted, second, sorted.length);
      if (cost < least) {
        least = cost;
        best = [first, second];
      }
    }
  }
  return best;
}

/** Sum of squared distances to the mean. */
function spread(values: readonly number[], from: number, to: number): number {
  let sum = 0;
  for (let i = from; i < to; i++) sum += values[i] as number;
  const mean = sum / (to - from);
  let total = 0;
  for (let i = from; i < to; i++) total += ((values[i] as number) - mean) ** 2;
  return total;
}
