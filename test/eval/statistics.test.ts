import { describe, expect, it } from "vitest";
import {
  bootstrapMean,
  mean,
  median,
  pairedDifference,
  quantile,
  Random,
  wilson,
} from "../../lib/eval/index.ts";

describe("averages", () => {
  it("are those of hand-worked lists", () => {
    expect(mean([1, 2, 6])).toBe(3);
    expect(median([5, 1, 3])).toBe(3);
    expect(median([4, 1, 3, 2])).toBe(2.5);
    expect(quantile([0, 10, 20, 30], 0.25)).toBe(7.5);
    expect(quantile([3], 0.9)).toBe(3);
  });

  it("are NaN for no values", () => {
    expect(mean([])).toBeNaN();
    expect(median([])).toBeNaN();
  });
});

describe("the Wilson interval", () => {
  it("has the published values", () => {
    // Newcombe 1998 (Statistics in Medicine 17), table I, method 3: 81/263, 15/148, 0/20, 1/29.
    const rounded = ([a, b]: [number, number]) => {
      const { low, high } = wilson(a, b);
      return [low, high].map((end) => Number(end.toFixed(4)));
    };
    expect(rounded([81, 263])).toEqual([0.2553, 0.3662]);
    expect(rounded([15, 148])).toEqual([0.0624, 0.1605]);
    expect(rounded([0, 20])).toEqual([0, 0.1611]);
    expect(rounded([1, 29])).toEqual([0.0061, 0.1718]);
  });

  it("mirrors: failures have the interval of successes, turned round", () => {
    expect(wilson(16, 16).low).toBeCloseTo(1 - wilson(0, 16).high, 12);
    expect(wilson(16, 16)).toMatchObject({ value: 1, high: 1 });
  });

  it("refuses impossible counts", () => {
    expect(() => wilson(0, 0)).toThrow("0 to 0 successes");
    expect(() => wilson(3, 2)).toThrow("got 3");
  });
});

describe("the bootstrap interval", () => {
  it("is the same for the same seed", () => {
    const random = new Random(3);
    const values = Array.from({ length: 30 }, () => random.unit());
    expect(bootstrapMean(values)).toEqual(bootstrapMean(values));
    expect(bootstrapMean(values, { seed: 2 })).not.toEqual(bootstrapMean(values, { seed: 1 }));
  });

  it("comes near the normal interval for many values", () => {
    const random = new Random(4);
    const values = Array.from({ length: 400 }, () => random.unit());
    const { value, low, high } = bootstrapMean(values);
    const half = (1.96 * Math.sqrt(1 / 12)) / Math.sqrt(values.length); // uniform: variance 1/12
    expect(value).toBe(mean(values));
    expect(high - value).toBeGreaterThan(0.85 * half);
    expect(high - value).toBeLessThan(1.15 * half);
    expect(value - low).toBeGreaterThan(0.85 * half);
    expect(value - low).toBeLessThan(1.15 * half);
  });

  it("shrinks to the value where all are equal, and refuses none", () => {
    expect(bootstrapMean([2, 2, 2])).toEqual({ value: 2, low: 2, high: 2 });
    expect(() => bootstrapMean([])).toThrow("at least one value");
  });
});

describe("a paired difference", () => {
  it("cancels what the pairs have in common", () => {
    const hard = [-9, -1, -5, -3, -7];
    const easier = hard.map((value) => value + 0.5);
    expect(pairedDifference(easier, hard)).toEqual({ value: 0.5, low: 0.5, high: 0.5 });
    expect(() => pairedDifference([1], [])).toThrow("expected 1 partners, got 0");
  });
});

describe("the generator", () => {
  it("gives the same numbers on every machine", () => {
    const random = new Random(42);
    expect(Array.from({ length: 4 }, () => random.uint32())).toMatchInlineSnapshot(`
      [
        2837322924,
        544945897,
        479756282,
        3500138142,
      ]
    `);
  });

  it("spreads evenly and differs between neighbouring seeds", () => {
    for (const seed of [0, 1, 2 ** 40]) {
      const random = new Random(seed);
      const counts = new Array(16).fill(0);
      for (let i = 0; i < 16_000; i++) counts[random.below(16)]++;
      // Chi-square with 15 degrees of freedom: 37.7 is exceeded once in a thousand.
      const chi = counts.reduce((sum, count) => sum + (count - 1000) ** 2 / 1000, 0);
      expect(chi).toBeLessThan(37.7);
    }
    expect(new Random(1).uint32()).not.toBe(new Random(2).uint32());
    expect(new Random(1).uint32()).not.toBe(new Random(1 + 2 ** 32).uint32());
  });

  it("samples without repeats and only what is there", () => {
    const random = new Random(9);
    const items = [1, 2, 3, 4, 5];
    expect(random.sample(items, 5).sort()).toEqual(items);
    expect(items).toEqual([1, 2, 3, 4, 5]);
    expect(() => new Random(Number.NaN)).toThrow("safe integer for seed, got NaN");
  });
});
