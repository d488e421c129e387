// f16 and bf16 values in JavaScript: rounding to nearest even, raw bits both ways. Subnormals are kept.

export type FloatDType = "f32" | "f16" | "bf16";

interface Format {
  readonly fractionBits: number;
  readonly minExponent: number;
  readonly maxExponent: number;
}

const FORMATS: Record<FloatDType, Format> = {
  f32: { fractionBits: 23, minExponent: -126, maxExponent: 127 },
  f16: { fractionBits: 10, minExponent: -14, maxExponent: 15 },
  bf16: { fractionBits: 7, minExponent: -126, maxExponent: 127 },
};

const f64 = new Float64Array(1);
const f64Words = new Uint32Array(f64.buffer);
const HIGH = new Uint8Array(new Uint32Array([1]).buffer)[0] === 1 ? 1 : 0;
const f32 = new Float32Array(1);
const f32Bits = new Uint32Array(f32.buffer);

function exponentOf(x: number): number {
  f64[0] = x;
  return ((f64Words[HIGH] >>> 20) & 0x7ff) - 1023;
}

/** 2 ** exponent, for exponents of normal f64 numbers: the operator takes a fourth of a test's time. */
function powerOfTwo(exponent: number): number {
  f64[0] = 0;
  f64Words[HIGH] = (exponent + 1023) << 20;
  return f64[0];
}

const LARGEST: Record<FloatDType, number> = {
  f32: largestOf(FORMATS.f32),
  f16: largestOf(FORMATS.f16),
  bf16: largestOf(FORMATS.bf16),
};

function largestOf({ fractionBits, maxExponent }: Format): number {
  return (2 - 2 ** -fractionBits) * 2 ** maxExponent;
}

/** Distance between neighbours of the format at the magnitude of x (one ulp). */
export function ulpOf(dtype: FloatDType, x: number): number {
  const format = FORMATS[dtype];
  const magnitude = Math.abs(x);
  const exponent =
    magnitude === 0 || !Number.isFinite(magnitude)
      ? format.minExponent
      : Math.min(Math.max(exponentOf(magnitude), format.minExponent), format.maxExponent);
  return powerOfTwo(exponent - format.fractionBits);
}

/** Half an ulp of 1: the unit round-off of the format. */
export function unitRoundoff(dtype: FloatDType): number {
  return 2 ** -(FORMATS[dtype].fractionBits + 1);
}

export function largestFinite(dtype: FloatDType): number {
  return LARGEST[dtype];
}

/** x rounded once to the format, ties to even; too large becomes infinite. */
export function roundTo(dtype: FloatDType, x: number): number {
  if (dtype === "f32") return Math.fround(x);
  if (x === 0 || !Number.isFinite(x)) return x;
  const step = ulpOf(dtype, x);
  const scaled = x / step; // exact: step is a power of two and |scaled| < 2^53
  let whole = Math.floor(scaled);
  const rest = scaled - whole;
  if (rest > 0.5 || (rest === 0.5 && whole % 2 !== 0)) whole += 1;
  const rounded = whole * step;
  if (Math.abs(rounded) > largestFinite(dtype)) return rounded > 0 ? Infinity : -Infinity;
  return rounded === 0 && x < 0 ? -0 : rounded;
}

/** Raw bits of a value that the format holds exactly. */
export function toBits(dtype: FloatDType, value: number): number {
  f32[0] = value;
  const bits = f32Bits[0];
  if (dtype === "f32") return bits;
  if (dtype === "bf16") return Number.isNaN(value) ? 0x7fc0 : bits >>> 16;
  const sign = (bits >>> 16) & 0x8000;
  if (Number.isNaN(value)) return 0x7e00;
  const magnitude = Math.abs(value);
  if (magnitude === Infinity) return sign | 0x7c00;
  if (magnitude < 2 ** -14) return sign | Math.round(magnitude * 2 ** 24);
  const exponent = exponentOf(magnitude);
  return sign | ((exponent + 15) << 10) | Math.round((magnitude / powerOfTwo(exponent) - 1) * 1024);
}

export function fromBits(dtype: FloatDType, bits: number): number {
  if (dtype !== "f16") {
    f32Bits[0] = dtype === "bf16" ? bits << 16 : bits;
    return f32[0];
  }
  const sign = bits & 0x8000 ? -1 : 1;
  const exponent = (bits >>> 10) & 31;
  const fraction = bits & 1023;
  if (exponent === 31) return fraction === 0 ? sign * Infinity : Number.NaN;
  if (exponent === 0) return sign * fraction * 2 ** -24;
  return sign * (1 + fraction / 1024) * powerOfTwo(exponent - 15);
}
