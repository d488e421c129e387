// The tolerance table: every number that a test allows a result to be off by. docs/tolerance.md explains the
// formulas; changing one needs a line in the changelog.
import { type FloatDType, ulpOf, unitRoundoff } from "../oracle/float-formats.ts";

const U32 = unitRoundoff("f32");

/** Worst growth of n float32 roundings: n u / (1 - n u). */
export function gamma(n: number): number {
  return (n * U32) / (1 - n * U32);
}

/** Attention against its naive yardstick. */
const ATTENTION = {
  /** Times the error of the naive implementation in the same dtype. */
  naiveFactor: 2,
  /** Ulps of the output at the row's largest magnitude that are always allowed. */
  outputUlps: 2,
  /** Unit round-offs of the stored dtype, at the largest |v|: one rounding of each probability. */
  probabilityRoundoffs: 2,
} as const;

/** Relative error of exp_canonical (measured in test/oracle/float32.test.ts) plus its argument's rounding. */
const EXP_RELATIVE = 2e-7;
/** Entropy and lse use the library's own logarithm: ulps of float32 at the result. */
const LOG_ULPS = 8;

/** What one query's logits allow: T visible slots, D dims, largest sum |q_d k_d| times scale, largest |beta|. */
export interface LogitScale {
  readonly slots: number;
  readonly headDim: number;
  readonly largestTerm: number;
  readonly largestBeta: number;
}

/** Absolute error of a float32 logit: D products and sums, RoPE's two roundings, scale and beta. */
export function logitBound(scale: LogitScale): number {
  return gamma(scale.headDim + 6) * (scale.largestTerm + scale.largestBeta);
}

/** Relative error of a probability, numerator and denominator each. */
export function probabilityRelative(scale: LogitScale): number {
  const logits = logitBound(scale);
  // The exponents differ from the largest by up to 2 (largestTerm + largestBeta): rounding the difference.
  const differences = 2 * U32 * (scale.largestTerm + scale.largestBeta);
  return 2 * (logits + differences + EXP_RELATIVE) + gamma(scale.slots + 4);
}

/** Sum of `count` probabilities (a window score) of size `value`. */
export function scoreBound(value: number, count: number, scale: LogitScale): number {
  // exp_canonical gives 0 below 2^-126: that much is lost absolutely.
  return value * (probabilityRelative(scale) + gamma(count)) + count * 2 ** -120;
}

/** Sum of squares of `count` probabilities. */
export function squareBound(value: number, count: number, scale: LogitScale): number {
  return value * (2 * probabilityRelative(scale) + gamma(count + 1)) + count * 2 ** -120;
}

/** Sum of -p ln p: p's relative error moves a term by (|ln p| + 1) p. */
export function entropyBound(value: number, count: number, scale: LogitScale): number {
  const relative = probabilityRelative(scale) + gamma(scale.slots * count);
  return (value + count) * relative + LOG_ULPS * ulpOf("f32", value);
}

export function lseBound(value: number, naiveError: number, scale: LogitScale): number {
  const own = logitBound(scale) + probabilityRelative(scale);
  return ATTENTION.naiveFactor * naiveError + own + LOG_ULPS * ulpOf("f32", value);
}

export interface AttentionScale extends LogitScale {
  readonly dtype: FloatDType;
  readonly outDtype: FloatDType;
  readonly largestOutput: number;
  readonly largestValue: number;
}

/** Error floor of an attention output: what any correct order of operations may cost. */
export function attentionFloor(scale: AttentionScale): number {
  const output = ATTENTION.outputUlps * ulpOf(scale.outDtype, scale.largestOutput);
  const weights =
    scale.dtype === "f32"
      ? 0
      : ATTENTION.probabilityRoundoffs * unitRoundoff(scale.dtype) * scale.largestValue;
  // Sums of subnormal values lose up to half a smallest subnormal a slot.
  const smallest = scale.slots * ulpOf("f32", 0);
  return output + weights + probabilityRelative(scale) * scale.largestValue + smallest;
}

/** 2 times the naive error (of the row, or root mean square) plus the floor. */
export function attentionBound(naiveError: number, scale: AttentionScale): number {
  return ATTENTION.naiveFactor * naiveError + attentionFloor(scale);
}

/** Accumulated probabilities out of attend: like attention, measured with the naive one, on top of the sum's own bound. */
export function scoreSumBound(
  value: number,
  naiveError: number,
  count: number,
  scale: LogitScale,
): number {
  return ATTENTION.naiveFactor * naiveError + scoreBound(value, count, scale) + 2 ** -100;
}

/** A float32 sum of n terms whose absolute values add up to `size`; `extra` further roundings. */
export function sumBound(size: number, n: number, extra = 0): number {
  return gamma(n + extra) * size + (n + extra) * ulpOf("f32", 0);
}

/** One rotation in float32 and one rounding to dtype, for a pair of magnitude `size`. */
export function rotationBound(size: number, dtype: FloatDType): number {
  return gamma(3) * size + ulpOf(dtype, size) / 2 + ulpOf("f32", 0);
}

/** Rounding once to dtype. */
export function roundingBound(value: number, dtype: FloatDType): number {
  return ulpOf(dtype, value) / 2;
}

/** Cosine of two unit rows in float32 against float64. */
export function cosineBound(headDim: number): number {
  return 2 * gamma(headDim + 4);
}

/**
 * Cosine with the mean of `slots` unit rows, whose norm is `meanNorm`: rows that cancel out leave a mean that is short
 * beside its error. RoPE's roundings on top.
 */
export function meanCosineBound(headDim: number, slots: number, meanNorm: number): number {
  return cosineBound(headDim + 6) + (2 * gamma(headDim + slots + 8)) / meanNorm;
}

/** How far rounding a codeword to dtype can move a cosine: sum of d rounding errors of a unit vector. */
export function codewordBound(headDim: number, dtype: FloatDType): number {
  return cosineBound(headDim) + Math.sqrt(headDim) * unitRoundoff(dtype);
}

/** How much a mean squared error may seem to rise because float32 cosines decided: `meanSquare` is that of the rows. */
export function squaredErrorSlack(meanSquare: number, headDim: number): number {
  return 4 * gamma(headDim + 4) * meanSquare;
}

/** Cosine and sine of the table: rounded once from float64, whose own argument error stays below an ulp. */
export function ropeTableBound(): number {
  return ulpOf("f32", 1) / 2 + 1e-9;
}
