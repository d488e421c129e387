// Anchors of the oracles that work on scores, slots and labels: literal cases of 2-6 tokens worked by hand.
import { describe, expect, it } from "vitest";
import { appendKvOracle, appendKvTwin } from "./append-kv.ts";
import { compactOracle } from "./compact.ts";
import { keyStatsOracle, keyStatsTwin } from "./key-stats.ts";
import { nearestCodewordOracle, nearestCodewordTwin } from "./nearest-codeword.ts";
import { poolScoresOracle, poolScoresTwin } from "./pool-scores.ts";
import { reduceByLabelOracle, reduceByLabelTwin } from "./reduce-by-label.ts";
import { reduceGroupOracle, reduceGroupTwin } from "./reduce-group.ts";
import { ropeOracle, ropeTwin } from "./rope.ts";
import { rowCosineOracle, rowCosineTwin } from "./row-cosine.ts";
import { selectTopkOracle } from "./select-topk.ts";
import type { RopeValues, RunValues } from "./types.ts";

const rows = (...values: number[][]) => values.map((row) => Float32Array.from(row));
const lists = (values: ArrayLike<number>[]) => values.map((row) => Array.from(row));

// Two pairs that turn by 90 and 180 degrees per position, tabled for positions 0, 1, 2.
const quarterTurns = (style: "norm" | "neox"): RopeValues => ({
  cosSin: Float32Array.from([1, 0, 1, 0, 0, 1, -1, 0, -1, 0, 1, 0]),
  nRot: 4,
  style,
});

describe("pool_scores oracle", () => {
  const row = rows([3, 9, 6, 0]);
  it("means over the kernel count the padding, or only what is inside", () => {
    const mean = { rows: row, kernel: 3, kind: "mean" } as const;
    expect(lists(poolScoresOracle({ ...mean, divisor: "kernel" }))).toEqual([[4, 6, 5, 2]]);
    expect(lists(poolScoresOracle({ ...mean, divisor: "valid" }))).toEqual([[6, 6, 5, 3]]);
    expect(lists(poolScoresTwin({ ...mean, divisor: "valid" }))).toEqual([[6, 6, 5, 3]]);
  });
  it("maxima see their neighbours and carry NaN", () => {
    const max = { kernel: 3, kind: "max", divisor: "kernel" } as const;
    expect(lists(poolScoresOracle({ ...max, rows: row }))).toEqual([[9, 9, 9, 6]]);
    const withNan = rows([1, Number.NaN, 2, 3, 1]);
    expect(lists(poolScoresOracle({ ...max, rows: withNan }))).toEqual([[NaN, NaN, NaN, 3, 3]]);
  });
});

describe("reduce_group oracle", () => {
  const four = rows([1, 5], [3, Number.NaN], [2, 2], [4, 8]);
  it("sums, averages and maximises pairs of rows", () => {
    const base = { rows: four, group: 2 };
    expect(lists(reduceGroupOracle({ ...base, kind: "sum" }))).toEqual([
      [4, NaN],
      [6, 10],
    ]);
    expect(lists(reduceGroupOracle({ ...base, kind: "mean" }))).toEqual([
      [2, NaN],
      [3, 5],
    ]);
    expect(lists(reduceGroupTwin({ ...base, kind: "max" }))).toEqual([
      [3, NaN],
      [4, 8],
    ]);
  });
});

describe("select_topk oracle", () => {
  it("takes the best, ties to the smaller index, NaN after -inf", () => {
    const row = rows([2, 5, 2, Number.NaN, -Infinity, 2]);
    const take = (k: number) => selectTopkOracle({ rows: row, k: [k] })[0].indices;
    expect(take(0)).toEqual([]);
    expect(take(3)).toEqual([0, 1, 2]);
    expect(take(5)).toEqual([0, 1, 2, 4, 5]);
    expect(take(9)).toEqual([0, 1, 2, 3, 4, 5]);
  });
  it("protected slots come on top of k", () => {
    const row = rows([0, 1, 2, 3, 4, 5]);
    const kept = selectTopkOracle({ rows: row, k: [1], sinks: 1, recent: 2 });
    expect(kept[0].indices).toEqual([0, 3, 4, 5]);
  });
  it("across heads the floor goes first, the rest to the best anywhere", () => {
    const set = rows([9, 8, 7, 1], [3, 2, 1, 0]);
    const kept = (k: number, floor: number) =>
      selectTopkOracle({ rows: set, k: [k], poolRows: 2, floor }).map((row) => row.indices);
    expect(kept(4, 1)).toEqual([[0, 1, 2], [0]]);
    expect(kept(4, 0)).toEqual([[0, 1, 2], [0]]);
    expect(kept(3, 0)).toEqual([[0, 1, 2], []]);
    expect(kept(1, 2)).toEqual([
      [0, 1],
      [0, 1],
    ]);
    // 1 is in row 0 and in row 1: the smaller row has it.
    expect(kept(6, 0)).toEqual([
      [0, 1, 2, 3],
      [0, 1],
    ]);
  });
  it("the union of a group carries who selected what", () => {
    const kept = selectTopkOracle({
      rows: rows([9, 0, 1], [0, 9, 1]),
      k: [1, 1],
      unionGroup: 2,
      recent: 1,
    });
    expect(kept).toEqual([{ indices: [0, 1, 2], masks: [1, 2, 3] }]);
  });
});

describe("rope oracle", () => {
  it("turns adjacent pairs (norm) and half-split pairs (neox)", () => {
    const x = Float32Array.from([1, 2, 3, 4]);
    const one = { x, heads: 1, tokens: 1, headDim: 4, positionsTo: Int32Array.of(1) };
    expect(Array.from(ropeOracle({ ...one, rope: quarterTurns("norm") }))).toEqual([-2, 1, -3, -4]);
    expect(Array.from(ropeOracle({ ...one, rope: quarterTurns("neox") }))).toEqual([-3, -2, 1, -4]);
    expect(Array.from(ropeTwin({ ...one, rope: quarterTurns("neox") }, "f16"))).toEqual([
      -3, -2, 1, -4,
    ]);
  });
  it("goes back by the position it came from, and by the difference when both are given", () => {
    const x = Float32Array.from([1, 2, 3, 4]);
    const one = { x, heads: 1, tokens: 1, headDim: 4, rope: quarterTurns("norm") };
    expect(Array.from(ropeOracle({ ...one, positionsFrom: Int32Array.of(1) }))).toEqual([
      2, -1, -3, -4,
    ]);
    const both = { positionsFrom: Int32Array.of(7), positionsTo: Int32Array.of(5) };
    expect(Array.from(ropeOracle({ ...one, ...both }))).toEqual([-1, -2, 3, 4]);
  });
  it("leaves dims beyond nRot alone", () => {
    const x = Float32Array.from([1, 2, 3, 4]);
    const rope: RopeValues = { cosSin: Float32Array.from([1, 0, 0, 1]), nRot: 2, style: "norm" };
    const one = { x, heads: 1, tokens: 1, headDim: 4, positionsTo: Int32Array.of(1), rope };
    expect(Array.from(ropeOracle(one))).toEqual([-2, 1, 3, 4]);
  });
});

describe("append_kv oracle", () => {
  it("counts positions up, rounds to the run's dtype and turns keys only", () => {
    const base = { tokens: 2, headDim: 4, dtype: "bf16", firstPosition: 1 } as const;
    const k = Float32Array.from([3, 4, 0, 0, 0, 0, 257, 0]);
    const v = Float32Array.from([1, 2, 3, 259, 0, 0, 0, 0]);
    const plain = appendKvTwin({ ...base, k, v });
    expect(Array.from(plain.positions)).toEqual([1, 2]);
    expect(Array.from(plain.k)).toEqual([3, 4, 0, 0, 0, 0, 256, 0]);
    expect(Array.from(plain.v)).toEqual([1, 2, 3, 260, 0, 0, 0, 0]);
    expect(Array.from(plain.keyNorms)).toEqual([5, 256]);
    const turned = appendKvTwin({ ...base, k, v, rope: quarterTurns("norm") });
    expect(Array.from(turned.k, Math.abs)).toEqual([4, 3, 0, 0, 0, 0, 256, 0]);
    expect([turned.k[0], turned.k[1]]).toEqual([-4, 3]);
    expect(Array.from(turned.v)).toEqual(Array.from(plain.v));
    expect(appendKvOracle({ ...base, k, v }).keyNorms[1]).toBe(257);
  });
});

describe("compact oracle", () => {
  it("moves rows, positions, masks and betas together", () => {
    const src: RunValues = {
      codec: "raw",
      rotated: false,
      slots: 3,
      k: Float32Array.from([1, 2, 3]),
      v: Float32Array.from([4, 5, 6]),
      positions: Int32Array.of(0, 4, 9),
      beta: Float32Array.of(0, 0.5, 1),
    };
    const kept = compactOracle({ src, headDim: 1, indices: [11, 12], indexBase: 10 });
    expect(kept.k).toEqual([2, 3]);
    expect(kept.v).toEqual([5, 6]);
    expect(kept.positions).toEqual([4, 9]);
    expect(kept.mask).toEqual([0xffff, 0xffff]);
    expect(kept.beta).toEqual([0.5, 1]);
    const masked = compactOracle({
      src,
      headDim: 1,
      indices: [0],
      indexBase: 0,
      maskOverride: Uint16Array.of(5),
    });
    expect(masked.mask).toEqual([5]);
  });
});

describe("nearest_codeword oracle", () => {
  it("takes the largest dot, ties to the smaller index, NaN last", () => {
    const base = { n: 2, c: 3, headDim: 2, normalize: true };
    const x = Float32Array.of(3, 4, 0, -2);
    const found = nearestCodewordTwin({
      ...base,
      x,
      codewords: Float32Array.of(1, 0, 1, 0, 0, -1),
    });
    expect(Array.from(found.index)).toEqual([0, 2]);
    expect(found.score[1]).toBe(1);
    expect(Array.from(found.norm)).toEqual([5, 2]);
    const nan = nearestCodewordOracle({
      ...base,
      x,
      codewords: Float32Array.of(NaN, 0, 0, -1, NaN, NaN),
    });
    expect(Array.from(nan.index)).toEqual([1, 1]);
    const onlyNan = nearestCodewordTwin({ ...base, c: 1, x, codewords: Float32Array.of(NaN, NaN) });
    expect(Array.from(onlyNan.index)).toEqual([-1, -1]);
    expect(onlyNan.score[0]).toBeNaN();
    const none = nearestCodewordTwin({ ...base, c: 0, x, codewords: new Float32Array(0) });
    expect([none.index[0], none.score[0]]).toEqual([-1, -Infinity]);
  });
});

describe("reduce_by_label oracle", () => {
  it("groups, counts and adds weighted rows; label -1 takes no part", () => {
    const values = {
      x: Float32Array.of(1, 10, 2, 20, 4, 40, 8, 80),
      headDim: 2,
      labels: Int32Array.of(2, -1, 0, 2),
      weights: Float32Array.of(1, 1, 3, 0.5),
      nLabels: 3,
    };
    for (const reduce of [reduceByLabelOracle, reduceByLabelTwin]) {
      const result = reduce(values);
      expect(Array.from(result.sums)).toEqual([12, 120, 0, 0, 5, 50]);
      expect(Array.from(result.counts)).toEqual([1, 0, 2]);
      expect(Array.from(result.offsets)).toEqual([0, 1, 1, 3]);
      expect(result.order).toEqual([2, 0, 3]);
    }
  });
});

describe("key_stats oracle", () => {
  // Keys of length 5 and 13 before the turn of a quarter, and a zero; values by hand.
  const head: RunValues[] = [
    {
      codec: "raw",
      rotated: false,
      slots: 3,
      k: Float32Array.from([3, 4, 5, 12, 0, 0]),
      v: Float32Array.from([3, -4, 0, 0, 1, 2]),
      positions: Int32Array.from([0, 1, 0]),
    },
  ];
  const rope: RopeValues = { cosSin: Float32Array.from([1, 0, 0, 1]), nRot: 2, style: "norm" };
  const plain = { headDim: 2, heads: [head], reindex: false };

  it("norms of stored rows, whatever turns the keys", () => {
    for (const stats of [keyStatsOracle, keyStatsTwin]) {
      for (const values of [plain, { ...plain, rope }]) {
        const { kNorm, vNorm, vL1 } = stats(values);
        expect(lists(kNorm)).toEqual([[5, 13, 0]]);
        expect(lists(vL1)).toEqual([[7, 0, 3]]);
        expect(vNorm[0][0]).toBe(5);
        expect(vNorm[0][2]).toBeCloseTo(Math.sqrt(5), 6);
      }
    }
  });
  it("cosines with the mean direction of the keys as they are turned", () => {
    const cosine = (a: number[], b: number[]) =>
      (a[0] * b[0] + a[1] * b[1]) / Math.hypot(...a) / Math.hypot(...b);
    for (const stats of [keyStatsOracle, keyStatsTwin]) {
      const still = [3 / 5 + 5 / 13, 4 / 5 + 12 / 13];
      const [got] = stats(plain).cosToMean;
      expect(got[0]).toBeCloseTo(cosine([3, 4], still), 6);
      expect(got[1]).toBeCloseTo(cosine([5, 12], still), 6);
      expect(got[2]).toBe(0);
      // A quarter turn of (5, 12) is (-12, 5).
      const turned = [3 / 5 - 12 / 13, 4 / 5 + 5 / 13];
      const [other] = stats({ ...plain, rope }).cosToMean;
      expect(other[0]).toBeCloseTo(cosine([3, 4], turned), 6);
      expect(other[1]).toBeCloseTo(cosine([-12, 5], turned), 6);
    }
  });
});

describe("row_cosine oracle", () => {
  it("parallel, opposite, orthogonal and zero rows", () => {
    const values = {
      a: Float32Array.from([1, 2, 3, 0, 0, 5, 0, 0]),
      b: Float32Array.from([2, 4, -1, 0, 7, 0, 1, 1]),
      rows: 4,
      width: 2,
    };
    for (const cosine of [rowCosineOracle, rowCosineTwin]) {
      const { cosines, sum } = cosine(values);
      expect(cosines[0]).toBeCloseTo(1, 6);
      expect(Array.from(cosines.slice(1))).toEqual([-1, 0, 0]);
      expect(sum).toBeCloseTo(0, 6);
    }
    expect(rowCosineTwin(values, 10).sum).toBeCloseTo(10, 5);
  });
});
