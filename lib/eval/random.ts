/**
 * The seeded generator of everything random in evaluations: texts, resampling.
 *
 * xoshiro128** (Blackman and Vigna 2021, "Scrambled linear pseudorandom number generators", ACM TOMS
 * 47(4)), its 128 bits of state filled from the seed by SplitMix32 (the 32-bit finaliser of MurmurHash3
 * over a Weyl sequence). 32-bit integer arithmetic only, so every machine gives the same numbers.
 */
import { spindleError } from "../errors.js";

export class Random {
  private a: number;
  private b: number;
  private c: number;
  private d: number;

  /** @param seed any safe integer; its low 32 bits and the rest both count */
  constructor(seed: number) {
    if (!Number.isSafeInteger(seed)) {
      throw spindleError(
        "ERR_SPINDLEKV_ARGUMENT",
        "Random",
        `Random: expected a safe integer for seed, got ${seed}`,
      );
    }
    const high = Math.floor(seed / 2 ** 32);
    let weyl = (seed ^ Math.imul(high, 0x85ebca6b)) >>> 0;
    const next = () => {
      weyl = (weyl + 0x9e3779b9) >>> 0;
      let mixed = weyl;
      mixed = Math.imul(mixed ^ (mixed >>> 16), 0x85ebca6b);
      mixed = Math.imul(mixed ^ (mixed >>> 13), 0xc2b2ae35);
      return (mixed ^ (mixed >>> 16)) >>> 0;
    };
    this.a = next();
    this.b = next();
    this.c = next();
    this.d = next() | 1; // the all-zero state would stay zero
  }

  /** Uniform over the integers 0 to 2^32 - 1. */
  uint32(): number {
    const result = Math.imul(rotateLeft(Math.imul(this.b, 5), 7), 9) >>> 0;
    const shifted = this.b << 9;
    this.c ^= this.a;
    this.d ^= this.b;
    this.b ^= this.c;
    this.a ^= this.d;
    this.c ^= shifted;
    this.d = rotateLeft(this.d, 11);
    return result;
  }

  /** Uniform over [0, 1), 32 bits of resolution. */
  unit(): number {
    return this.uint32() / 2 ** 32;
  }

  /** Uniform over the integers 0 to `count` - 1; the bias is below count / 2^32. */
  below(count: number): number {
    return Math.floor(this.unit() * count);
  }

  /** One of `items`. */
  pick<T>(items: readonly T[]): T {
    return items[this.below(items.length)];
  }

  /** `count` different ones of `items`, in random order. */
  sample<T>(items: readonly T[], count: number): T[] {
    const pool = [...items];
    return Array.from({ length: count }, () => pool.splice(this.below(pool.length), 1)[0]);
  }
}

function rotateLeft(value: number, bits: number): number {
  return (value << bits) | (value >>> (32 - bits));
}
