// Value patterns of input data. All values are exact in the dtype they are made for.
import { type FloatDType, roundTo } from "../oracle/float-formats.ts";
import type { Prng } from "./prng.ts";

export type FinitePattern = "normal" | "equal" | "ties" | "subnormal" | "outlier";
export type Pattern = FinitePattern | "inf" | "nan";

export const FINITE_PATTERNS: readonly FinitePattern[] = [
  "normal",
  "equal",
  "ties",
  "subnormal",
  "outlier",
];
export const PATTERNS: readonly Pattern[] = [...FINITE_PATTERNS, "inf", "nan"];

// Magnitude of the one huge value of "outlier" data: exact in every dtype, and its square still fits float32.
const OUTLIER = 29_952;
// Smallest normal f16 is 2^-14 and smallest normal f32 and bf16 2^-126.
const SUBNORMAL_STEP: Record<FloatDType, number> = {
  f32: 2 ** -149,
  f16: 2 ** -24,
  bf16: 2 ** -133,
};

export function makeValues(
  pattern: Pattern,
  length: number,
  dtype: FloatDType,
  random: Prng,
): Float32Array {
  const result = new Float32Array(length);
  const shared = roundTo(dtype, random.normal());
  for (let i = 0; i < length; i++) {
    switch (pattern) {
      case "equal":
        result[i] = shared;
        break;
      case "ties":
        result[i] = random.integer(-2, 2) / 2;
        break;
      case "subnormal":
        result[i] = random.integer(-63, 63) * SUBNORMAL_STEP[dtype];
        break;
      default:
        result[i] = roundTo(dtype, random.normal());
    }
  }
  if (length === 0) return result;
  const spot = random.integer(0, length - 1);
  if (pattern === "outlier") result[spot] = random.pick([-OUTLIER, OUTLIER]);
  if (pattern === "inf") {
    result[spot] = Infinity;
    result[random.integer(0, length - 1)] = -Infinity;
  }
  if (pattern === "nan") result[spot] = Number.NaN;
  return result;
}
