/** How repeated timings are summarised: by median and quartiles, which one slow sample does not move. */
import { quantile } from "spindlekv/eval";

/** The middle of some values and where their middle half lies. */
export interface Spread {
  readonly median: number;
  /** First quartile. */
  readonly low: number;
  /** Third quartile. */
  readonly high: number;
  readonly count: number;
}

/**
 * Median and quartiles.
 *
 * @throws Error for no values, or one that is not finite
 */
export function spreadOf(values: readonly number[]): Spread {
  if (values.length === 0) throw new Error("spreadOf: expected at least one value, got none");
  const wrong = values.find((value) => !Number.isFinite(value));
  if (wrong !== undefined) throw new Error(`spreadOf: expected finite values, got ${wrong}`);
  return {
    median: quantile(values, 0.5),
    low: quantile(values, 0.25),
    high: quantile(values, 0.75),
    count: values.length,
  };
}

/** The interquartile range as a share of the median. */
export function relativeRange({ median, low, high }: Spread): number {
  return (high - low) / median;
}

/**
 * Spread of `values[i] / partners[i]`: both of a pair were taken moments apart, so what slows the whole
 * machine for a while cancels.
 *
 * @throws Error when the lists differ in length
 */
export function pairedRatio(values: readonly number[], partners: readonly number[]): Spread {
  if (values.length !== partners.length) {
    throw new Error(`pairedRatio: expected ${values.length} partners, got ${partners.length}`);
  }
  return spreadOf(values.map((value, i) => value / partners[i]));
}
