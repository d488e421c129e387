// The oracles of methods and budgets on cases worked by hand.
import { describe, expect, it } from "vitest";
import { hamilton, pyramidBudgets, spindleBudgets, uniformBudgets } from "./budgets.ts";
import { sinksAndRecentKept, windowMethodKept, windowMethodScores } from "./methods.ts";
import type { QueryValues } from "./types.ts";

describe("budgets", () => {
  it("largest remainders, earlier layers first among equals", () => {
    expect(hamilton([1.5, 1.5, 1])).toEqual([2, 1, 1]);
    expect(hamilton([0.2, 0.5, 0.3])).toEqual([0, 1, 0]);
    expect(uniformBudgets(10, 4, 100)).toEqual([3, 3, 2, 2]);
    expect(uniformBudgets(10, 4, 2)).toEqual([2, 2, 2, 2]);
  });

  it("PyramidKV: B = 40, beta = 20 falls from 78 to 2", () => {
    expect(pyramidBudgets(80, 2, 1000, 20)).toEqual([78, 2]);
    expect(pyramidBudgets(120, 3, 1000, 20)).toEqual([78, 40, 2]);
    expect(pyramidBudgets(80, 2, 80, 20)).toEqual([78, 2]);
    // A context shorter than 2 B is shared equally.
    expect(pyramidBudgets(80, 2, 79, 20)).toEqual([40, 40]);
  });

  it("SpindleKV: the paper's example ratios", () => {
    // r = 0.15 -> 0.25 / 0.05; r = 0.525 -> 1 / 0.05; r = 0.8 -> 1 / 0.6 of 100 slots.
    expect(spindleBudgets(30, 2, 100, 0.05)).toEqual([25, 5]);
    expect(spindleBudgets(105, 2, 100, 0.05)).toEqual([100, 5]);
    expect(spindleBudgets(160, 2, 100, 0.05)).toEqual([100, 60]);
    expect(spindleBudgets(6, 2, 100, 0.05)).toEqual([3, 3]);
    expect(spindleBudgets(90, 3, 100, 0.05)).toEqual([55, 30, 5]);
    expect(spindleBudgets(5, 2, 0, 0.05)).toEqual([0, 0]);
  });
});

describe("kept slots", () => {
  it("sinks and recent", () => {
    expect(sinksAndRecentKept(6, 1, 2)).toEqual([0, 4, 5]);
    expect(sinksAndRecentKept(3, 2, 2)).toEqual([0, 1, 2]);
  });

  // One KV head of two query heads, keys along two axes, one query a window: head 0 looks along x, head 1 along y.
  const values: QueryValues = {
    headDim: 2,
    group: 2,
    queries: 1,
    q: Float32Array.of(9, 0, 0, 9),
    heads: [
      [
        {
          codec: "raw",
          rotated: false,
          slots: 5,
          k: Float32Array.of(1, 0, 0, 1, 0, 0, 2, 0, 0, 0),
          v: new Float32Array(10),
          positions: Int32Array.of(0, 1, 2, 3, 4),
        },
      ],
    ],
    scale: 1,
    causal: true,
    queryPosition: 4,
    ropeQueryPosition: 4,
    reindex: false,
  };

  it("each query head for itself", () => {
    const kept = windowMethodKept(values, { group: "unfold", k: 1 });
    expect(kept).toEqual([{ indices: [1, 3, 4], masks: [2, 1, 3] }]);
  });

  it("by the mean of the group", () => {
    // Head 0 gives slot 3 nearly 1, head 1 gives slot 1 nearly 1; slot 3 wins by a hair over slot 1.
    const scores = windowMethodScores(values, { group: "mean", k: 1 })[0];
    expect(scores[3]).toBeGreaterThan(scores[1]);
    expect(scores[4]).toBe(0);
    expect(windowMethodKept(values, { group: "mean", k: 1 })[0].indices).toEqual([3, 4]);
  });

  it("pooled: neighbours of the best come along", () => {
    const pool = { kernel: 3, kind: "max", divisor: "kernel" } as const;
    const kept = windowMethodKept(
      { ...values, q: Float32Array.of(9, 0, 9, 0) },
      {
        group: "max",
        k: 2,
        pool,
      },
    );
    expect(kept[0].indices).toEqual([2, 3, 4]);
  });
});
