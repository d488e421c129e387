/**
 * Fewest values of a row that sum to each of some parts of the whole; negative values count as 0.
 *
 * @param masses parts of the whole in [0, 1], ascending
 * @returns how many values each takes
 */
export function slotsOfMasses(row: Float32Array, masses: readonly number[]): number[] {
  const sorted = Float32Array.from(row, (value) => Math.max(0, value)).sort();
  const whole = sorted.reduce((sum, value) => sum + value, 0);
  let held = 0;
  let count = 0;
  return masses.map((mass) => {
    // Sums are taken largest first; rounding noise of the whole does not ask for one value more.
    const wanted = mass * whole * (1 - 1e-12);
    while (count < sorted.length && held < wanted) {
      held += sorted[sorted.length - 1 - count] as number;
      count += 1;
    }
    return count;
  });
}
