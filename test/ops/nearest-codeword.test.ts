// nearest_codeword: the index and score of the best codeword, bit for bit, ties to the smaller index.
import { expect, it } from "vitest";
import { ops } from "../harness/api.ts";
import { describeOp, invoke, runCase, runCases } from "../harness/backends.ts";
import { large, matrix } from "../harness/cases.ts";
import { compareExact, compareWithin } from "../harness/compare.ts";
import type { Layout } from "../harness/layouts.ts";
import { nearestCodewordOracle, nearestCodewordTwin } from "../harness/oracles.ts";
import { readNumbers } from "../harness/tensors.ts";
import { sumBound } from "../harness/tolerance.ts";
import { makeValues, PATTERNS, type Pattern } from "../harness/values.ts";
import type { FloatDType } from "../oracle/float-formats.ts";

interface Search {
  readonly dtype: FloatDType;
  readonly D: number;
  readonly T: number;
  readonly C: number;
  readonly problems: number;
  readonly normalize: boolean;
  readonly layout: Layout;
  readonly pattern: Pattern;
  readonly codewords: Pattern | "repeated";
}

const searches = matrix<Search>(
  {
    dtype: ["f32", "f16", "bf16"],
    D: [8, 32, 64, 80, 96, 112, 128, 256, 512],
    T: [0, 1, 2, 31, 33, 65, large(257)],
    C: [0, 1, 2, 31, 33, 65, large(130)],
    problems: [1, 3],
    normalize: [true, false],
    layout: ["contiguous", "padded", "sliced"],
    pattern: PATTERNS,
    codewords: [...PATTERNS, "repeated"],
  },
  { seed: 141, allow: (c) => c.T * c.C * c.D <= 2e6, isLarge: (c) => c.T * c.C * c.D > 150_000 },
);

describeOp("the best codeword and its score have the bits of the contract", (backend, device) => {
  for (const normalize of [true, false]) {
    it(normalize ? "rows are normalised" : "rows are taken as they are", async () => {
      const cases = searches.casesFor(backend).filter((c) => c.normalize === normalize);
      await runCases(device, cases, async (c, arena, random) => {
        const { dtype, D: headDim, layout } = c;
        const pieces = Array.from({ length: c.problems }, (_, p) => {
          const n = Math.max(0, c.T - p);
          const count = Math.max(0, c.C - p);
          let codewords =
            c.codewords === "repeated"
              ? makeValues("ties", Math.min(headDim, 16) * headDim, dtype, random)
              : makeValues(c.codewords, count * headDim, dtype, random);
          if (c.codewords === "repeated") {
            const rows = codewords;
            codewords = Float32Array.from(
              { length: count * headDim },
              (_, i) => rows[i % rows.length],
            );
          }
          const values = {
            x: makeValues(c.pattern, n * headDim, dtype, random),
            codewords,
            ...{ n, c: count, headDim, normalize },
          };
          const problem = {
            x: arena.input(dtype, [n, headDim], values.x, { layout, name: "x" }),
            codewords: arena.input(dtype, [count, headDim], codewords, {
              layout,
              name: "codewords",
            }),
            index: arena.output("i32", [n], { name: "index" }),
            score: arena.output("f32", [n], { name: "score" }),
            norm: arena.output("f32", [n], { name: "norm" }),
          };
          return { values, problem };
        });
        await invoke(random, ops.nearestCodeword, {
          problems: pieces.map(({ problem }) => problem),
          normalize,
        });
        for (const { values, problem } of pieces) {
          const twin = nearestCodewordTwin(values);
          compareExact("index", await readNumbers(problem.index), twin.index);
          compareExact("score", await readNumbers(problem.score), twin.score);
          compareExact("norm", await readNumbers(problem.norm), twin.norm);
          if (c.pattern !== "normal" || c.codewords !== "normal") continue;
          const oracle = nearestCodewordOracle(values);
          const size = Math.max(...oracle.norm, 1) * headDim;
          compareWithin("score against float64", await readNumbers(problem.score), oracle.score, {
            element: () => 2 * sumBound(size, headDim, 4),
          });
        }
      });
    });
  }
});

describeOp("optional outputs may be left out", (_, device) => {
  it("index alone is the same", async () => {
    await runCase(device, "seed=142", async (arena, random) => {
      const x = arena.input("f16", [20, 64], makeValues("normal", 20 * 64, "f16", random));
      const codewords = arena.input("f16", [9, 64], makeValues("normal", 9 * 64, "f16", random));
      const all = arena.output("i32", [20]);
      const alone = arena.output("i32", [20]);
      const score = arena.output("f32", [20]);
      ops.nearestCodeword.sync({
        problems: [{ x, codewords, index: all, score }],
        normalize: true,
      });
      ops.nearestCodeword.sync({ problems: [{ x, codewords, index: alone }], normalize: true });
      expect(await readNumbers(alone)).toEqual(await readNumbers(all));
    });
  });
});
