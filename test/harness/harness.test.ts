// The harness checked by itself: a comparator or a case generator that lets something through would make every
// other test worthless.
import { describe, expect, it } from "vitest";
import { caseId, large, matrix, pairwise, prngOf, product } from "./cases.ts";
import { compareExact, compareWithin } from "./compare.ts";
import { LAYOUTS, stridesOf } from "./layouts.ts";
import { Prng } from "./prng.ts";
import { makeValues, type PATTERNS } from "./values.ts";

describe("the generator", () => {
  it("gives the same numbers for the same seed and others for another", () => {
    const draw = (seed: number) =>
      Array.from(
        { length: 8 },
        (
          (r) => () =>
            r.next()
        )(new Prng(seed)),
      );
    expect(draw(7)).toEqual(draw(7));
    expect(draw(7)).not.toEqual(draw(8));
  });
  it("is roughly uniform and normal", () => {
    const random = new Prng(1);
    const uniform = Array.from({ length: 20_000 }, () => random.uniform());
    const normal = Array.from({ length: 20_000 }, () => random.normal());
    const mean = (x: number[]) => x.reduce((a, b) => a + b, 0) / x.length;
    expect(mean(uniform)).toBeCloseTo(0.5, 1);
    expect(mean(normal)).toBeCloseTo(0, 1);
    expect(mean(normal.map((x) => x * x))).toBeCloseTo(1, 1);
    expect([...random.permutation(9)].sort()).toEqual([0, 1, 2, 3, 4, 5, 6, 7, 8]);
  });
});

describe("cases", () => {
  const axes = {
    T: [0, 1, 2, 33],
    dtype: ["f32", "f16", "bf16"],
    D: [8, 64],
    causal: [true, false],
  };
  it("pairwise meets every pair with far fewer cases than the product", () => {
    const rows = pairwise(axes, 3);
    expect(rows.length).toBeLessThan(24);
    const names = Object.keys(axes) as (keyof typeof axes)[];
    for (const a of names) {
      for (const b of names.filter((name) => name !== a)) {
        for (const x of axes[a]) {
          for (const y of axes[b])
            expect(rows.some((row) => row[a] === x && row[b] === y)).toBe(true);
        }
      }
    }
  });
  it("keeps what is not allowed out, and large values from the slow backend", () => {
    const some = matrix<{ T: number; D: number }>(
      { T: [1, large(4097)], D: [8, 16] },
      { seed: 1, allow: ({ T, D }) => T > 1 || D === 8 },
    );
    expect(some.casesFor("simt").map(({ T, D }) => [T, D])).toEqual([[1, 8]]);
    expect(some.casesFor("cpu").some(({ T }) => T === 4097)).toBe(true);
    expect(some.casesFor("cpu").every(({ T, D }) => T > 1 || D === 8)).toBe(true);
  });
  it("the full product has every combination once", () => {
    const rows = [...product({ a: [1, 2, 3], b: ["x", "y"] })].map(({ a, b }) => `${a}${b}`);
    expect(rows.sort()).toEqual(["1x", "1y", "2x", "2y", "3x", "3y"]);
  });
  it("an id is readable and gives the numbers", () => {
    const id = caseId(7, { Hkv: 3, T: 97, dtype: "bf16", values: "ties", causal: false });
    expect(id).toBe("seed=7 Hkv=3 T=97 bf16 ties no-causal");
    expect(prngOf(id).next()).toBe(prngOf(id).next());
    expect(prngOf(id).next()).not.toBe(prngOf(`${id} x`).next());
  });
});

describe("values", () => {
  it("every pattern is what its name says", () => {
    const of = (name: (typeof PATTERNS)[number]) =>
      Array.from(makeValues(name, 64, "f16", new Prng(5)));
    expect(new Set(of("equal")).size).toBe(1);
    expect(new Set(of("ties")).size).toBeLessThan(6);
    expect(of("subnormal").every((x) => Math.abs(x) < 2 ** -14)).toBe(true);
    expect(of("outlier").filter((x) => Math.abs(x) > 1000)).toHaveLength(1);
    expect(of("inf").filter((x) => !Number.isFinite(x)).length).toBeGreaterThan(0);
    expect(of("nan").filter(Number.isNaN)).toHaveLength(1);
    expect(of("normal").every(Number.isFinite)).toBe(true);
  });
});

describe("layouts", () => {
  it("rows never overlap and stay inside", () => {
    for (const layout of LAYOUTS) {
      for (const shape of [
        [3, 5],
        [2, 3, 8],
        [1, 1, 8],
      ]) {
        const { strides, offset, size } = stridesOf(shape, layout, 3);
        const seen = new Set<number>();
        const visit = (at: number, dim: number): void => {
          if (dim === shape.length) seen.add(at);
          else for (let i = 0; i < shape[dim]; i++) visit(at + i * strides[dim], dim + 1);
        };
        visit(offset, 0);
        expect(seen.size).toBe(shape.reduce((a, b) => a * b));
        expect(Math.max(...seen)).toBeLessThan(offset + size);
      }
    }
  });
});

describe("the comparator", () => {
  const within = (got: number[], expected: number[], bound: number, rms?: number) => () =>
    compareWithin("x", got, expected, { element: () => bound, rms });
  it("sees length, NaN, infinities and signs of zero", () => {
    expect(() => compareExact("x", [1], [1, 2])).toThrow("1 elements, expected 2");
    expect(() => compareExact("x", [0], [-0])).toThrow("first at 0");
    expect(() => compareExact("x", [NaN, 1], [NaN, 1])).not.toThrow();
    expect(within([NaN], [0], 1e9)).toThrow("got NaN at 0");
    expect(within([1], [NaN], 1e9)).toThrow("expected NaN");
    expect(within([Infinity], [-Infinity], 1e9)).toThrow("expected -Infinity");
  });
  it("names the worst element, both values and their distance", () => {
    expect(within([1, 2.5, 3.1], [1, 2, 3], 0.01)).toThrow(
      /worst at 1: got 2.5, expected 2 .*ulps.*50.0 times/,
    );
    expect(within([1, 2], [1, 2], 0)).not.toThrow();
    expect(within([1, 2 + 1e-12], [1, 2], 0)).toThrow("worst at 1");
  });
  it("sees an aggregate that is too large although every element passes", () => {
    expect(within([1.9, 2.9], [1, 2], 1, 0.5)).toThrow("root mean square error");
  });
});
