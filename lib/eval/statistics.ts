/**
 * The statistics that results are reported with: means and medians with 95 % intervals.
 * Everything is deterministic; resampling takes a seed.
 */
import { Random } from "./random.js";
import { spindleError } from "../errors.js";

/** An estimate and the interval it lies in. */
export interface Estimate {
  readonly value: number;
  readonly low: number;
  readonly high: number;
}

/** 97.5th percentile of the normal distribution: 95 % intervals, two-sided. */
const kNormal95 = 1.959963984540054;
const kCoverage = 0.95;

/** Arithmetic mean; NaN for no values. */
export function mean(values: readonly number[]): number {
  return values.reduce((sum, value) => sum + value, 0) / values.length;
}

/** Middle value, or the mean of the two in the middle; NaN for no values. */
export function median(values: readonly number[]): number {
  return quantile(values, 0.5);
}

/**
 * Quantile by linear interpolation between order statistics; NaN for no values.
 * @source Hyndman and Fan 1996, definition 7
 */
export function quantile(values: readonly number[], fraction: number): number {
  if (values.length === 0) return Number.NaN;
  const sorted = [...values].sort((a, b) => a - b);
  const place = fraction * (sorted.length - 1);
  const below = Math.floor(place);
  const above = Math.min(below + 1, sorted.length - 1);
  return sorted[below] + (place - below) * (sorted[above] - sorted[below]);
}

/**
 * A proportion with its Wilson score interval, which stays sensible at 0 and 1 and for few trials:
 * centre (p + z^2/2n) / (1 + z^2/n), half-width z / (1 + z^2/n) * sqrt(p(1-p)/n + z^2/4n^2).
 *
 * @source Wilson 1927, "Probable inference, the law of succession, and statistical inference"
 * @throws Error unless 0 <= successes <= trials and trials > 0
 */
export function wilson(successes: number, trials: number): Estimate {
  if (!(trials > 0 && successes >= 0 && successes <= trials)) {
    throw spindleError(
      "ERR_SPINDLEKV_ARGUMENT",
      "wilson",
      `wilson: expected 0 to ${trials} successes of some trials, got ${successes}`,
    );
  }
  const p = successes / trials;
  const z2 = kNormal95 ** 2 / trials;
  const centre = (p + z2 / 2) / (1 + z2);
  const half = (kNormal95 / (1 + z2)) * Math.sqrt((p * (1 - p)) / trials + z2 / (4 * trials));
  return { value: p, low: Math.max(0, centre - half), high: Math.min(1, centre + half) };
}

/** Options of {@link bootstrapMean}. */
export interface BootstrapOptions {
  /** Seed of the resampling. Default 1. */
  readonly seed?: number;
  /** Resamples drawn. Default 4000: the ends of the interval then move by about 1 % of its width. */
  readonly resamples?: number;
}

/**
 * The mean with its 95 % percentile bootstrap interval: the means of resamples drawn with replacement.
 * For a paired comparison pass the differences of the pairs ({@link pairedDifference}).
 *
 * @source Efron and Tibshirani 1993, "An Introduction to the Bootstrap", chapter 13
 * @throws Error for no values
 */
export function bootstrapMean(values: readonly number[], options: BootstrapOptions = {}): Estimate {
  const { seed = 1, resamples = 4000 } = options;
  if (values.length === 0)
    throw spindleError(
      "ERR_SPINDLEKV_ARGUMENT",
      "bootstrapMean",
      "bootstrapMean: expected at least one value, got none",
    );
  const random = new Random(seed);
  const means = Array.from({ length: resamples }, () => {
    let sum = 0;
    for (let i = 0; i < values.length; i++) sum += values[random.below(values.length)];
    return sum / values.length;
  });
  const tail = (1 - kCoverage) / 2;
  return { value: mean(values), low: quantile(means, tail), high: quantile(means, 1 - tail) };
}

/**
 * Mean of `ours[i] - theirs[i]` with its bootstrap interval: for two methods on the same prompts, whose
 * difficulty then cancels.
 *
 * @throws Error when the lists differ in length or are empty
 */
export function pairedDifference(
  ours: readonly number[],
  theirs: readonly number[],
  options: BootstrapOptions = {},
): Estimate {
  if (ours.length !== theirs.length) {
    throw spindleError(
      "ERR_SPINDLEKV_ARGUMENT",
      "pairedDifference",
      `pairedDifference: expected ${ours.length} partners, got ${theirs.length}`,
    );
  }
  return bootstrapMean(
    ours.map((value, i) => value - theirs[i]),
    options,
  );
}
