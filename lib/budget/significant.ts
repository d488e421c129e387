/**
 * A number to 12 significant bits. Evidence that backends compute in different orders (an entropy) differs in its last
 * bits; rounded, it leads to the same budgets everywhere.
 */
export function significant(value: number): number {
  if (value === 0 || !Number.isFinite(value)) return value;
  const unit = 2 ** (Math.floor(Math.log2(Math.abs(value))) - 11);
  return Math.round(value / unit) * unit;
}
