/**
 * Turns real shares into integers with an exact sum: every share is rounded down, then the largest
 * remainders get one more each (equal remainders: the earlier index), never above `cap`. What a cap cuts off goes to
 * the others in proportion to their shares.
 *
 * @param shares non-negative numbers; need not sum to anything
 * @param total integer to distribute in proportion to the shares
 * @param cap upper bound of every entry, or one for each
 * @returns integers that sum to min(total, sum of the caps)
 */
export function largestRemainder(
  shares: readonly number[],
  total: number,
  cap: number | readonly number[],
): number[] {
  const caps = typeof cap === "number" ? shares.map(() => cap) : cap;
  const wanted = Math.min(
    total,
    caps.reduce((a, b) => a + b, 0),
  );
  const exact = cappedShares(shares, wanted, caps);
  // Rounding noise of the shares decides nothing: neither whether one is an integer, nor between equal remainders.
  const noise = 1e-9;
  const result = exact.map((value) => Math.floor(value + noise));
  let left = wanted - result.reduce((a, b) => a + b, 0);
  const order = exact
    .map((value, index) => ({
      index,
      remainder: Math.round((value - (result[index] as number)) / noise),
    }))
    .sort((a, b) => b.remainder - a.remainder || a.index - b.index)
    .map((entry) => entry.index);
  while (left !== 0) {
    const step = Math.sign(left);
    let moved = false;
    for (const index of step > 0 ? order : order.toReversed()) {
      if (left === 0) break;
      const value = (result[index] ?? 0) + step;
      if (value < 0 || value > (caps[index] as number)) continue;
      result[index] = value;
      left -= step;
      moved = true;
    }
    if (!moved) break;
  }
  return result;
}

/** Shares scaled to a sum, none above its cap: what is cut off is shared out again until nothing is. */
export function cappedShares(
  shares: readonly number[],
  total: number,
  caps: readonly number[],
): number[] {
  const result = new Array<number>(shares.length).fill(0);
  let open = shares.map((_, index) => index);
  let left = total;
  while (open.length > 0 && left > 0) {
    const sum = open.reduce((all, index) => all + (shares[index] as number), 0);
    // Where all shares are 0 nobody is preferred.
    const shareOf = (index: number) =>
      sum > 0 ? ((shares[index] as number) * left) / sum : left / open.length;
    const full = open.filter((index) => shareOf(index) >= (caps[index] as number));
    if (full.length === 0) {
      for (const index of open) result[index] = shareOf(index);
      break;
    }
    for (const index of full) {
      result[index] = caps[index] as number;
      left -= caps[index] as number;
    }
    open = open.filter((index) => !full.includes(index));
  }
  return result;
}

/**
 * Integers for layers of which some are still to come: while they are, each share is rounded up, so that rounding never
 * gives a layer more at a later stage than it still has; with the last layer the sum is exact.
 *
 * @param isLast whether every layer is in
 */
export function cascadeRemainder(
  shares: readonly number[],
  total: number,
  cap: number | readonly number[],
  isLast: boolean,
): number[] {
  if (isLast) return largestRemainder(shares, total, cap);
  const caps = typeof cap === "number" ? shares.map(() => cap) : cap;
  const wanted = Math.min(
    total,
    caps.reduce((a, b) => a + b, 0),
  );
  return cappedShares(shares, wanted, caps).map((share, index) =>
    Math.min(caps[index] as number, Math.ceil(share - 1e-9)),
  );
}
