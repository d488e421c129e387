// The float32 arithmetic under the oracles, against exact rational arithmetic on BigInt.
import { describe, expect, it } from "vitest";
import { Prng } from "../harness/prng.ts";
import { exp, fmaf, halvingSum64, rint, scoreKey } from "./float32.ts";
import { fromBits, largestFinite, roundTo, toBits, ulpOf } from "./float-formats.ts";

const SCALE = 400n; // every finite float32 product is an integer multiple of 2^-298

// A float64 that float32 arithmetic can produce, as an integer multiple of 2^-400.
function toInteger(x: number): bigint {
  const bits = new BigUint64Array(new Float64Array([x]).buffer)[0];
  const exponent = (bits >> 52n) & 0x7ffn;
  const fraction = (bits & 0xfffffffffffffn) | (exponent === 0n ? 0n : 1n << 52n);
  const shift = (exponent === 0n ? 1n : exponent) - 1075n + SCALE;
  const magnitude = shift >= 0n ? fraction << shift : fraction >> -shift;
  return bits >> 63n ? -magnitude : magnitude;
}

// The float32 nearest to the integer times 2^-400, ties to even: the candidate and its neighbours are compared exactly.
function nearestFloat32(exact: bigint, guess: number): number {
  const bits = new Uint32Array(new Float32Array([guess]).buffer)[0];
  const candidates = [guess];
  for (const step of [-1, 1]) {
    const near = new Float32Array(new Uint32Array([bits + step]).buffer)[0];
    if (Number.isFinite(near)) candidates.push(near);
  }
  const distance = (x: number) => {
    const d = toInteger(x) - exact;
    return d < 0n ? -d : d;
  };
  const isEven = (x: number) => (new Uint32Array(new Float32Array([x]).buffer)[0] & 1) === 0;
  return candidates.reduce((best, x) => {
    const a = distance(x);
    const b = distance(best);
    return a < b || (a === b && isEven(x)) ? x : best;
  });
}

describe("fmaf rounds once", () => {
  it("agrees with exact arithmetic on random operands of all sizes", () => {
    const random = new Prng(11);
    for (let i = 0; i < 20_000; i++) {
      const pick = () => Math.fround(random.normal() * 2 ** random.integer(-60, 40));
      const a = pick();
      const b = pick();
      const c = i % 3 === 0 ? Math.fround(-a * b * (1 + random.normal() * 1e-7)) : pick();
      const exact = (toInteger(a) * toInteger(b)) / (1n << SCALE) + toInteger(c);
      const expected = nearestFloat32(exact, Math.fround(a * b + c));
      expect(fmaf(a, b, c) === expected, `fmaf(${a}, ${b}, ${c})`).toBe(true);
    }
  });

  it("does not round twice where float64 lands half-way", () => {
    // 1 + 2^-24 is half-way between two float32 values; the tiny product decides.
    const half = 1 + 2 ** -12;
    expect(Math.fround(half * half)).toBe(fmaf(half, half, 0));
    expect(fmaf(2 ** -24, 1, 1)).toBe(1);
    expect(fmaf(2 ** -40, 2 ** -40, Math.fround(1 + 2 ** -23))).toBe(1 + 2 ** -23);
    const a = 1 + 2 ** -23;
    // a * 2^-24 = 2^-24 + 2^-47: just above the middle of 1 and 1 + 2^-23.
    expect(fmaf(a, 2 ** -24, 1)).toBe(1 + 2 ** -23);
    // The product (1 - 2^-23)(1 + 2^-23) 2^-24 = 2^-24 - 2^-70 is just below it, past float64's reach.
    expect(fmaf((1 - 2 ** -23) * 2 ** -24, a, 1)).toBe(1);
    // Above an odd value the float64 sum ties upwards; the single rounding does not.
    expect(Math.fround((1 - 2 ** -23) * 2 ** -24 * a + 1 + 2 ** -23)).toBe(1 + 2 ** -22);
    expect(fmaf((1 - 2 ** -23) * 2 ** -24, a, 1 + 2 ** -23)).toBe(1 + 2 ** -23);
    expect(fmaf(-(1 - 2 ** -23) * 2 ** -24, a, -1 - 2 ** -23)).toBe(-1 - 2 ** -23);
  });

  it("keeps infinities, NaN and signed zeros", () => {
    expect(fmaf(Infinity, 1, 1)).toBe(Infinity);
    expect(fmaf(Infinity, 0, 1)).toBeNaN();
    expect(fmaf(Infinity, 1, -Infinity)).toBeNaN();
    expect(fmaf(-0, 1, -0)).toBe(-0);
    expect(fmaf(-0, 1, 0)).toBe(0);
    expect(fmaf(2 ** 127, 2, 0)).toBe(Infinity);
    expect(fmaf(2 ** -126, 2 ** -23, 0)).toBe(2 ** -149);
    expect(fmaf(2 ** -126, 2 ** -24, 0)).toBe(0); // half of the smallest subnormal: to even
    expect(fmaf(2 ** -126, 2 ** -24, 2 ** -149)).toBe(2 ** -148); // one and a half: to even
  });
});

describe("the exponential of the contract", () => {
  it("is within 2e-7 of exp on its range, exact at 0, and 0 below the floor", () => {
    let worst = 0;
    for (let i = 0; i <= 87_300; i++) {
      const x = Math.fround(-i / 1000);
      worst = Math.max(worst, Math.abs(exp(x) / Math.exp(x) - 1));
    }
    expect(worst).toBeLessThan(2e-7);
    expect(exp(0)).toBe(1);
    expect(exp(-0)).toBe(1);
    expect(exp(-87.4)).toBe(0);
    expect(exp(-Infinity)).toBe(0);
    expect(exp(Number.NaN)).toBeNaN();
  });
});

describe("small parts", () => {
  it("rint rounds halves to even", () => {
    expect([0.5, 1.5, 2.5, 0.4, -1.5, -2.5, -126.5].map(rint)).toEqual([0, 2, 2, 0, -2, -2, -126]);
  });

  it("halvingSum64 adds the far half first", () => {
    const x = new Float32Array(64);
    x[0] = 1;
    x[32] = 2 ** -24; // lost against 1 when added to it
    x[1] = 2 ** -24;
    expect(halvingSum64(x.slice())).toBe(1);
    x[33] = 2 ** -24; // joins x[1] first: 2^-23 survives
    expect(halvingSum64(x)).toBe(1 + 2 ** -23);
  });

  it("scoreKey orders NaN, -inf, negatives, zeros, positives, inf", () => {
    const rising = [Number.NaN, -Infinity, -2, -1e-40, 0, 1e-40, 3, Infinity].map(scoreKey);
    expect(rising).toEqual([...rising].sort((a, b) => a - b));
    expect(new Set(rising).size).toBe(rising.length);
    expect(scoreKey(-0)).toBe(scoreKey(0));
  });
});

describe("f16 and bf16", () => {
  it("every f16 and bf16 bit pattern survives the way to a number and back", () => {
    for (const dtype of ["f16", "bf16"] as const) {
      const broken: number[] = [];
      for (let bits = 0; bits < 65_536; bits++) {
        const value = fromBits(dtype, bits);
        if (Number.isNaN(value)) continue;
        if (toBits(dtype, value) !== bits || !Object.is(roundTo(dtype, value), value))
          broken.push(bits);
      }
      expect(broken).toEqual([]);
    }
  });

  it("rounds halves to even and overflows to infinity", () => {
    expect(roundTo("f16", 2049)).toBe(2048);
    expect(roundTo("f16", 2051)).toBe(2052);
    expect(roundTo("f16", 65519.99)).toBe(largestFinite("f16"));
    expect(roundTo("f16", 65520)).toBe(Infinity);
    expect(roundTo("f16", -(2 ** -25))).toBe(-0);
    expect(roundTo("f16", 2 ** -25 * 1.01)).toBe(2 ** -24);
    expect(roundTo("bf16", 257)).toBe(256);
    expect(roundTo("bf16", 259)).toBe(260);
    expect(roundTo("bf16", -3.4e38)).toBe(-Infinity);
    expect(ulpOf("f16", 1)).toBe(2 ** -10);
    expect(ulpOf("bf16", 1.9)).toBe(2 ** -7);
    expect(ulpOf("f32", 0)).toBe(2 ** -149);
  });
});
