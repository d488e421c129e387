import { describe, expect, it } from "vitest";
import { pairedRatio, relativeRange, spreadOf } from "../../bench/harness/statistics.ts";

describe("a spread", () => {
  it("has the median and quartiles of a hand-worked list", () => {
    expect(spreadOf([50, 10, 40, 20, 30])).toEqual({ median: 30, low: 20, high: 40, count: 5 });
    expect(spreadOf([4, 1, 3, 2])).toEqual({ median: 2.5, low: 1.75, high: 3.25, count: 4 });
    expect(spreadOf([7])).toEqual({ median: 7, low: 7, high: 7, count: 1 });
  });

  it("does not move for one slow sample", () => {
    const { median, low, high } = spreadOf([10, 11, 12, 13, 1_000_000]);
    expect([median, low, high]).toEqual([12, 11, 13]);
  });

  it("leaves its input as it was", () => {
    const values = [3, 1, 2];
    spreadOf(values);
    expect(values).toEqual([3, 1, 2]);
  });

  it("is refused for no values and for NaN", () => {
    expect(() => spreadOf([])).toThrow("got none");
    expect(() => spreadOf([1, Number.NaN])).toThrow("got NaN");
    expect(() => spreadOf([1, Infinity])).toThrow("got Infinity");
  });

  it("has a range relative to its median", () => {
    expect(relativeRange({ median: 20, low: 15, high: 25, count: 9 })).toBe(0.5);
  });
});

describe("a paired ratio", () => {
  it("cancels what slows both of a pair", () => {
    // The machine is ten times slower for the last two pairs; the ratio stays 1.1.
    const plain = [1, 1, 10, 10];
    const other = [1.1, 1.1, 11, 11];
    expect(pairedRatio(other, plain).median).toBeCloseTo(1.1, 12);
    expect(spreadOf(other).median / spreadOf(plain).median).toBeCloseTo(1.1, 12);
    expect(pairedRatio([2, 30, 2], [1, 10, 2])).toEqual({
      median: 2,
      low: 1.5,
      high: 2.5,
      count: 3,
    });
  });

  it("is refused for lists of different lengths", () => {
    expect(() => pairedRatio([1, 2], [1])).toThrow("expected 2 partners, got 1");
  });
});
