// build_codebook: graph, greedy cover, refinement and output have the bits of the twin.
import { expect, it } from "vitest";
import { ops, Tensor } from "../harness/api.ts";
import { describeOp, runCase, runCases } from "../harness/backends.ts";
import { large, matrix } from "../harness/cases.ts";
import {
  buildAll,
  compareCodebook,
  makeRows,
  packGraph,
  placeProblem,
  readProblem,
  ROW_KINDS,
  type RowKind,
} from "../harness/codebook.ts";
import type { Layout } from "../harness/layouts.ts";
import { buildCodebookOracle, buildCodebookTwin } from "../harness/oracles.ts";
import { readNumbers } from "../harness/tensors.ts";
import { greedyCover } from "../oracle/build-codebook.ts";
import type { FloatDType } from "../oracle/float-formats.ts";

interface Build {
  readonly dtype: FloatDType;
  readonly D: number;
  readonly T: number;
  readonly theta: number;
  readonly kind: RowKind;
  readonly refine: number;
  readonly maxCodewords: number;
  readonly rows: "all" | "some" | "one";
  readonly layout: Layout;
  readonly refBytes: 2 | 4;
}

const builds = matrix<Build>(
  {
    dtype: ["f32", "f16", "bf16"],
    D: [8, 32, 64, 80, 96, 112, 128, 256, 512],
    T: [0, 1, 2, 31, 33, 63, 64, 65, 97, large(200)],
    theta: [-1, -0.1, 0, 0.5, 0.9, 0.98, 1],
    kind: ROW_KINDS,
    refine: [0, 1, 3],
    maxCodewords: [0, 1, 5],
    rows: ["all", "some", "one"],
    layout: ["contiguous", "padded", "sliced"],
    refBytes: [2, 4],
  },
  {
    seed: 161,
    allow: (c) => (c.rows === "all" || c.T > 0) && c.T * c.T * c.D <= 3e6,
    isLarge: (c) => c.T * c.T * c.D > 300_000,
  },
);

describeOp("all stages have the bits of the contract", (backend, device) => {
  for (const kind of ROW_KINDS) {
    it(`rows: ${kind}`, async () => {
      const cases = builds.casesFor(backend).filter((c) => c.kind === kind);
      await runCases(device, cases, async (c, arena, random) => {
        const all = Array.from({ length: c.T }, (_, i) => i);
        const some = c.rows === "one" ? [c.T - 1] : all.filter(() => random.uniform() < 0.6);
        const values = {
          x: makeRows(kind, c.T, c.D, c.dtype, random),
          n: c.T,
          headDim: c.D,
          dtype: c.dtype,
          theta: c.theta,
          refine: c.refine,
          maxCodewords: c.maxCodewords,
          ...(c.rows !== "all" && { rows: Int32Array.from(some) }),
        };
        const got = await buildAll(arena, values, c);
        compareCodebook(got, values);
      });
    });
  }
});

const BASE = { headDim: 64, dtype: "f16", theta: 0.9 } as const;

describeOp(
  "the cover is that of the float64 formula where cosines keep clear of theta",
  (_, device) => {
    for (const seed of [1, 2, 3, 4]) {
      it(`clusters of seed ${seed}`, async () => {
        await runCase(device, `seed=${160 + seed} oracle`, async (arena, random) => {
          // Noise of one size only: cosines inside a cluster are near 0.98, across clusters below 0.6.
          const n = 80;
          const values = { ...BASE, dtype: "f32" as const, n, x: new Float32Array(n * 64) };
          const centres = Array.from({ length: 9 }, () =>
            Array.from({ length: 64 }, () => random.normal()),
          );
          for (let i = 0; i < n; i++) {
            const centre = random.pick(centres);
            centre.forEach((x, d) => {
              values.x[i * 64 + d] = x + 0.12 * random.normal();
            });
          }
          const oracle = buildCodebookOracle(values);
          const got = await buildAll(arena, values);
          expect(got.labels).toEqual(Array.from(oracle.labels));
          expect(got.leaders.slice(0, got.count)).toEqual(oracle.leaders);
          expect(got.count).toBe(new Set(oracle.labels).size);
        });
      });
    }
  },
);

describeOp("stages one by one give what they give together", (_, device) => {
  for (const useGraph of [true, false]) {
    it(useGraph ? "cover from the stored graph" : "cover computes what it needs", async () => {
      await runCase(device, `seed=165 graph=${useGraph}`, async (arena, random) => {
        const n = 70;
        const x = makeRows("clusters", n, 64, "f16", random);
        const rows = Int32Array.from({ length: n }, (_, i) => i).filter((i) => i % 3 !== 1);
        const values = { ...BASE, x, n, rows, refine: 2 };
        const { graph, ...rest } = placeProblem(arena, values);
        const run = (problem: object, stages: ("graph" | "cover" | "emit")[]) =>
          ops.buildCodebook.sync({ problems: [problem as typeof rest], stages, refine: 2 });
        run({ ...rest, graph }, ["graph"]);
        run(useGraph ? { ...rest, graph } : rest, ["cover"]);
        const twin = buildCodebookTwin(values);
        expect(Array.from(await readNumbers(rest.labels))).toEqual(Array.from(twin.labels));
        expect((await readNumbers(rest.count))[0]).toBe(twin.leaders.length);
        run(rest, ["emit"]);
        compareCodebook(await readProblem({ ...rest, graph }, 64), values);
      });
    });
  }
});

describeOp("a cover of a graph that is given needs no rows", (_, device) => {
  it("labels, leaders and count come from the graph alone", async () => {
    await runCase(device, "seed=169", async (arena, random) => {
      const n = 100;
      const graph = new Uint8Array(n * n);
      for (let a = 0; a < n; a++) {
        graph[a * n + a] = 1;
        for (let b = 0; b < a; b++)
          graph[a * n + b] = graph[b * n + a] = random.uniform() < 0.05 ? 1 : 0;
      }
      const words = packGraph(graph, n).flatMap((word) => [
        Number(word & 0xffffffffn),
        Number(word >> 32n),
      ]);
      const data = new BigUint64Array(Uint32Array.from(words).buffer);
      const bits = Tensor.from(device, "u64", [n, 2], data);
      const labels = arena.output("i32", [n]);
      const leaders = arena.output("i32", [n]);
      const count = arena.output("i32", [1]);
      ops.buildCodebook.sync({
        problems: [{ theta: 0.5, graph: bits, labels, leaders, count }],
        stages: ["cover"],
      });
      const all = Array.from({ length: n }, (_, i) => i);
      const expected = greedyCover(graph, n, all, 0, () => 0);
      expect(Array.from(await readNumbers(labels))).toEqual(Array.from(expected.labels));
      expect(Array.from(await readNumbers(count))).toEqual([expected.leaders.length]);
      const picked = Array.from(await readNumbers(leaders)).slice(0, expected.leaders.length);
      expect(picked).toEqual(expected.leaders);
      bits.dispose();
    });
  });
});

describeOp("problems of one call do not touch each other", (_, device) => {
  it("three problems of different sizes and thetas equal three calls", async () => {
    await runCase(device, "seed=166", async (arena, random) => {
      const cases = [33, 1, 65].map((n, p) => ({
        ...BASE,
        n,
        theta: [0.8, 0.95, 0.98][p],
        x: makeRows("clusters", n, 64, "f16", random),
        refine: 1,
      }));
      const problems = cases.map((values) => placeProblem(arena, values));
      ops.buildCodebook.sync({ problems, stages: ["graph", "cover", "emit"], refine: 1 });
      for (let p = 0; p < cases.length; p++)
        compareCodebook(await readProblem(problems[p], 64), cases[p]);
    });
  });
});

describeOp("a repeated call gives the same bits", (_, device) => {
  it("on duplicates and zero rows", async () => {
    for (const kind of ["duplicates", "some-zeros"] as const) {
      await runCase(device, `seed=167 ${kind}`, async (arena, random) => {
        const values = { ...BASE, n: 90, x: makeRows(kind, 90, 64, "f16", random), refine: 2 };
        expect(await buildAll(arena, values)).toEqual(await buildAll(arena, values));
      });
    }
  });
});

describeOp("rows whose norm is not finite are counted", (_, device) => {
  it("among the rows taken part, added to what was there", async () => {
    await runCase(device, "seed=168", async (arena, random) => {
      const n = 40;
      const x = makeRows("clusters", n, 64, "f16", random);
      x[3 * 64 + 1] = Number.NaN;
      x[7 * 64] = Infinity;
      x[8 * 64 + 63] = Number.NaN; // row 8 takes no part
      const rows = Int32Array.from({ length: n }, (_, i) => i).filter((i) => i !== 8);
      const problem = placeProblem(arena, { ...BASE, x, n, rows });
      const nonfinite = arena.output("i32", [1], { data: [10], name: "nonfinite" });
      ops.buildCodebook.sync({
        problems: [problem],
        stages: ["graph", "cover", "emit"],
        nonfinite,
      });
      expect(Array.from(await readNumbers(nonfinite))).toEqual([12]);
    });
  });
});
