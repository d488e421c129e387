// The oracles of the budgets on cases worked by hand.
import { describe, expect, it } from "vitest";
import * as oracle from "./allocators.ts";

const row = (...values: number[]) => Float32Array.from(values);

describe("oracles of the budgets, by hand", () => {
  it("capped: 8 in proportion 4 : 2 : 2 under 3 each is 3, 2.5, 2.5", () => {
    expect(oracle.capped([4, 2, 2], 8, [3, 3, 3])).toEqual([3, 2.5, 2.5]);
    // A second entry fills up on what the first could not hold; those without a share come last, evenly.
    expect(oracle.capped([8, 4, 1], 9, [3, 3, 9])).toEqual([3, 3, 3]);
    expect(oracle.capped([1, 0, 0], 8, [2, 9, 9])).toEqual([2, 3, 3]);
    expect(oracle.capped([1, 0, 0], 8, [2, 1, 9])).toEqual([2, 1, 5]);
    expect(oracle.cappedIntegers([4, 2, 2], 8, [3, 3, 3])).toEqual([3, 3, 2]);
  });

  it("cosine: two layers, decay 0.5: the first factor is 1, so both weigh the same", () => {
    expect(oracle.cosineBudgets(10, 2, 99, 0.5, 1)).toEqual([5, 5]);
    // Four layers: factors 1, 0.5 + 0.25 * (1 + cos 45), 0.75 before the last three.
    const middle = 0.5 + 0.25 * (1 + Math.SQRT1_2);
    const weights = [1, 1, middle, middle * 0.75];
    const all = weights.reduce((a, b) => a + b);
    const plan = oracle.cosineBudgets(100_000, 4, 99_999, 0.5, 1);
    plan.forEach((k, l) => {
      expect(Math.abs(k - (100_000 * weights[l]) / all)).toBeLessThan(1);
    });
  });

  it("squeeze: the published example, 0.21 of the prompt on average and 0.08 for 16 of 32 layers", () => {
    const cosines = Array.from({ length: 32 }, (_, l) => (l < 16 ? 0.3 + 0.01 * (l % 2) : 0.95));
    const plan = oracle.squeezeBudgets(32 * 2100, cosines, 10_000, 0.08 / 0.21);
    expect(plan.slice(0, 16)).toEqual(new Array(16).fill(3400));
    expect(plan.slice(16)).toEqual(new Array(16).fill(800));
  });

  it("uncertainty: 0.9 of 8 1 1 needs two slots, of 1 1 1 three", () => {
    expect(oracle.fewestOfMass(row(1, 8, 1), 0.9)).toBe(2);
    expect(oracle.fewestOfMass(row(1, 1, 1), 0.9)).toBe(3);
    // u = 2/5 and 3/5; B = 10, bound 0.5: 5 + 5 * 2 * u.
    const scores = [[row(1, 8, 1)], [row(1, 1, 1)]];
    expect(oracle.uncertaintyBudgets(20, scores, 50, 0.9, 0.5)).toEqual([9, 11]);
  });

  it("cascade: H 4 and 1, V 1 and 16 with tau 2 and 1 weigh 2 : 16; 12 bits of 4096.9 are 4096", () => {
    expect(oracle.cascadeBudgets(18, [4, 1], [1, 16], 99, 2, 1)).toEqual([2, 16]);
    expect([4095, 4096.9, 4098.1, 0.1875].map(oracle.rounded12)).toEqual([
      4095, 4096, 4098, 0.1875,
    ]);
  });

  it("entropy: equal scores weigh 1, one score alone 0", () => {
    expect(oracle.entropyBudgets(6, [[row(1, 1)], [row(0, 5)], [row(3, 3)]], 9)).toEqual([3, 0, 3]);
  });

  it("prefix: layers that hold their mass in fewer slots keep fewer", () => {
    // p just above 0.75 takes three of four equal slots, and the one slot that has everything.
    const scores = [[row(1, 1, 1, 1)], [row(9, 0, 0, 0)]];
    expect(oracle.prefixBudgets(4, scores, 4)).toEqual([3, 1]);
  });

  it("best counts: ties go to the earlier layer, row; NaN last; full layers are passed over", () => {
    const scores = [[row(1, Number.NaN), row(1, 3)], [row(3, 1)]];
    expect(oracle.bestCounts(scores, 2)).toEqual([[0, 1], [1]]);
    expect(oracle.bestCounts(scores, 3)).toEqual([[1, 1], [1]]);
    expect(oracle.bestCounts(scores, 5)).toEqual([[1, 2], [2]]);
    expect(oracle.bestCounts(scores, 6)).toEqual([[2, 2], [2]]);
    expect(oracle.bestCounts(scores, 3, 1)).toEqual([[0, 1], [1]]);
  });

  it("adaptive heads: 4 best of 9 8 7 | 6 1 1 are 3 and 1; with floor 0.5 of 2 each 2.5 and 1.5", () => {
    const rows = [row(9, 8, 7), row(6, 1, 1)];
    expect(oracle.adaptiveHeadBudgets(2, rows, 0)).toEqual([3, 1]);
    expect(oracle.adaptiveHeadBudgets(2, rows, 0.5)).toEqual([3, 1]);
    expect(oracle.adaptiveHeadBudgets(2, rows, 1)).toEqual([2, 2]);
  });

  it("coverage: of 3 0 0 4 with one sink the newest slot makes the norm 5 whole", () => {
    const whole = row(3, 0, 0, 4);
    expect(oracle.coverageSuffix(whole, 1, 0)).toBe(1);
    expect(oracle.coverageSuffix(whole, 1, 0.39)).toBe(1);
    expect(oracle.coverageSuffix(whole, 1, 0.41)).toBe(0);
    expect(oracle.coverageSuffix(row(0, 2, 0, 0), 0, 0.01)).toBe(3);
  });

  it("profiled: 10 slots, a floor of 1 of mean 2.5 each, the rest by the squares of 1 and 2", () => {
    expect(
      oracle.profiledBudgets(
        5,
        [
          [1, 2],
          [0, 0],
        ],
        9,
        2,
        0.4,
      ),
    ).toEqual([
      [2, 6],
      [1, 1],
    ]);
  });
});
