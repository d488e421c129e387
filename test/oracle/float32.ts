// Single-precision arithmetic on JavaScript numbers, rounded as IEEE 754 does: the ground of the float32 twins.
// A product of two float32 values is exact in float64 (24 + 24 <= 53 bits), so fmaf needs one sum that is
// rounded once: TwoSum gives the sum's error, round-to-odd keeps it through the last rounding (Boldo and
// Melquiond, 2008: odd rounding to >= 24 + 2 bits, then to 24, is a single rounding).

const f64 = new Float64Array(1);
const u32 = new Uint32Array(f64.buffer);
const u64 = new BigInt64Array(f64.buffer);
const LITTLE_ENDIAN = new Uint8Array(new Uint32Array([1]).buffer)[0] === 1;
const LOW = LITTLE_ENDIAN ? 0 : 1;
const SMALLEST_NORMAL = 2 ** -126;

export const fround = Math.fround;

// Sum of p and c rounded to odd at 53 bits: exact sums stay; of the two neighbours of an inexact one the odd.
function addToOdd(p: number, c: number): number {
  const sum = p + c;
  const part = sum - p;
  const error = p - (sum - part) + (c - part);
  if (error === 0 || !Number.isFinite(sum)) return sum;
  f64[0] = sum;
  if ((u32[LOW] & 1) === 1) return sum;
  // sum is even and the exact value lies beside it, on the error's side.
  const awayFromZero = sum === 0 ? true : error > 0 === sum > 0;
  u64[0] += awayFromZero ? 1n : -1n;
  return f64[0];
}

/** a * b + c with one rounding, for float32 a, b, c. */
export function fmaf(a: number, b: number, c: number): number {
  const product = a * b;
  const sum = product + c;
  f64[0] = sum;
  // Rounding twice goes wrong only when the first result is half-way between two float32 values, which
  // for normal ones shows in the low 29 bits; subnormal results take the careful path always.
  if (
    (u32[LOW] & 0x1fffffff) !== 0x10000000 &&
    (sum >= SMALLEST_NORMAL || sum <= -SMALLEST_NORMAL)
  ) {
    return fround(sum);
  }
  return fround(addToOdd(product, c));
}

/** Nearest integer, ties to even; |x| < 2^51. */
export function rint(x: number): number {
  const shift = 1.5 * 2 ** 52;
  return x + shift - shift;
}

/** dot(a, b) of core/canonical.h, over length elements from the given offsets. */
export function dot(
  a: ArrayLike<number>,
  aOffset: number,
  b: ArrayLike<number>,
  bOffset: number,
  length: number,
): number {
  let acc = 0;
  for (let d = 0; d < length; d++) acc = fmaf(a[aOffset + d], b[bOffset + d], acc);
  return acc;
}

export function norm(a: ArrayLike<number>, offset: number, length: number): number {
  return fround(Math.sqrt(dot(a, offset, a, offset, length)));
}

/** unit(a): a / norm(a), and 0 when the norm is 0. */
export function unit(a: ArrayLike<number>, offset: number, length: number): Float32Array {
  const size = norm(a, offset, length);
  const result = new Float32Array(length);
  if (size !== 0) for (let d = 0; d < length; d++) result[d] = a[offset + d] / size;
  return result;
}

const LOG2E = fround(Math.LOG2E);
const LN2_HI = fround(0.693359375);
const LN2_LO = fround(-2.1219444e-4);
const EXP_FLOOR = fround(-87.33654);
const EXP_COEFFICIENTS = [
  1.98756915e-4, 1.3981999507e-3, 8.3334519073e-3, 4.1665795894e-2, 1.6666665459e-1,
  5.0000001201e-1,
].map(fround);

/** exp_canonical(x) of core/canonical.h, x <= 0. */
export function exp(x: number): number {
  if (!(x >= EXP_FLOOR)) return Number.isNaN(x) ? x : 0;
  const n = rint(fround(x * LOG2E));
  let r = fmaf(n, -LN2_HI, x);
  r = fmaf(n, -LN2_LO, r);
  let p = EXP_COEFFICIENTS[0];
  for (let i = 1; i < EXP_COEFFICIENTS.length; i++) p = fmaf(p, r, EXP_COEFFICIENTS[i]);
  p = fround(fmaf(p, fround(r * r), r) + 1);
  return fround(p * 2 ** n);
}

/** Halving sum of 64 values; x is overwritten. */
export function halvingSum64(x: Float32Array): number {
  for (let n = 32; n >= 1; n /= 2) for (let i = 0; i < n; i++) x[i] = x[i] + x[i + n];
  return x[0];
}

/** rotate_pair: (x, y) turned by (c, s). */
export function rotatePair(x: number, y: number, c: number, s: number): [number, number] {
  return [fmaf(-y, s, fround(x * c)), fmaf(y, c, fround(x * s))];
}

const f32 = new Float32Array(1);
const bits32 = new Uint32Array(f32.buffer);

/** score_key of core/canonical.h: larger score, larger key; -0 and +0 alike; NaN 0. */
export function scoreKey(score: number): number {
  if (Number.isNaN(score)) return 0;
  f32[0] = score === 0 ? 0 : score;
  const bits = bits32[0];
  return bits & 0x80000000 ? ~bits >>> 0 : (bits | 0x80000000) >>> 0;
}
