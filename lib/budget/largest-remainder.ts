/**
 * Turns real shares into integers with an exact sum: every share is rounded down, then the largest
 * remainders get one more each (equal remainders: the earlier index), never above `cap`.
 *
 * @param shares non-negative numbers; need not sum to anything
 * @param total integer to distribute in proportion to the shares
 * @param cap upper bound of every entry
 * @returns integers that sum to min(total, cap * shares.length)
 */
export function largestRemainder(shares: readonly number[], total: number, cap: number): number[] {
  const wanted = Math.min(total, cap * shares.length);
  const sum = shares.reduce((a, b) => a + b, 0);
  const scale = sum > 0 ? total / sum : 0;
  const exact = shares.map((share) => Math.min(cap, share * scale));
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
      if (value < 0 || value > cap) continue;
      result[index] = value;
      left -= step;
      moved = true;
    }
    if (!moved) break;
  }
  return result;
}
