// row_cosine: the bits of the canonical float32 twin, and within the bound of the float64 oracle.
import { expect, it } from "vitest";
import { ops } from "../harness/api.ts";
import { describeOp, invoke, runCase, runCases } from "../harness/backends.ts";
import { large, matrix } from "../harness/cases.ts";
import { compareExact, compareWithin } from "../harness/compare.ts";
import type { Layout } from "../harness/layouts.ts";
import { rowCosineOracle, rowCosineTwin } from "../harness/oracles.ts";
import { readNumbers } from "../harness/tensors.ts";
import { cosineBound, sumBound } from "../harness/tolerance.ts";
import { makeValues, PATTERNS, type Pattern } from "../harness/values.ts";
import type { FloatDType } from "../oracle/float-formats.ts";

interface Pairs {
  readonly dtype: FloatDType;
  readonly T: number;
  readonly width: number;
  readonly layout: Layout;
  readonly pattern: Pattern;
  readonly isSame: boolean;
}

const cases = matrix<Pairs>(
  {
    dtype: ["f32", "f16", "bf16"],
    T: [0, 1, 2, 7, 63, 64, 65, 129, large(1000)],
    width: [1, 3, 31, 32, 33, 63, 64, 65, 100, 576, large(4096)],
    layout: ["contiguous", "padded", "sliced"],
    pattern: PATTERNS,
    isSame: [false, true],
  },
  { seed: 181, allow: (c) => c.T * c.width <= 600_000, isLarge: (c) => c.T * c.width > 20_000 },
);

describeOp("cosines and their sum have the bits of the contract", (backend, device) => {
  for (const layout of ["contiguous", "padded", "sliced"] as const) {
    it(`over ${layout} rows of every width and value pattern`, async () => {
      const some = cases.casesFor(backend).filter((c) => c.layout === layout);
      await runCases(device, some, async (c, arena, random) => {
        const { dtype, T: rows, width } = c;
        const a = makeValues(c.pattern, rows * width, dtype, random);
        const b = c.isSame ? a : makeValues(c.pattern, rows * width, dtype, random);
        const pairs = { a, b, rows, width };
        const place = (data: Float32Array, name: string) =>
          arena.input(dtype, [rows, width], data, { layout, name });
        const left = place(a, "a");
        const start = 0.75;
        const outputs = {
          cosines: arena.output("f32", [rows], { name: "cosines" }),
          sum: arena.output("f32", [1], { data: [start], name: "sum" }),
          nonfinite: arena.output("i32", [1], { data: [5], name: "nonfinite" }),
        };
        const right = c.isSame ? left : place(b, "b");
        await invoke(random, ops.rowCosine, { a: left, b: right, ...outputs });
        const twin = rowCosineTwin(pairs, start);
        const cosines = await readNumbers(outputs.cosines);
        const sum = await readNumbers(outputs.sum);
        compareExact("cosines", cosines, twin.cosines);
        compareExact("sum", sum, [twin.sum]);
        const bad = twin.cosines.filter((x) => !Number.isFinite(x)).length;
        expect(await readNumbers(outputs.nonfinite)).toEqual(Int32Array.from([5 + bad]));
        if (c.pattern !== "normal") return;
        const oracle = rowCosineOracle(pairs);
        const each = cosineBound(width);
        compareWithin("cosines against float64", cosines, oracle.cosines, { element: () => each });
        compareWithin("sum against float64", sum, [start + oracle.sum], {
          element: () => rows * each + sumBound(rows + 1, rows, 2),
        });
      });
    });
  }
});

describeOp("an output that is left out changes no other", (_, device) => {
  it("the sum without the cosines, the cosines without the sum", async () => {
    await runCase(device, "seed=182", async (arena, random) => {
      const rows = 200;
      const width = 96;
      const data = () => makeValues("normal", rows * width, "bf16", random);
      const a = arena.input("bf16", [rows, width], data());
      const b = arena.input("bf16", [rows, width], data());
      const both = {
        cosines: arena.output("f32", [rows]),
        sum: arena.output("f32", [1], { data: [0] }),
      };
      const cosines = arena.output("f32", [rows]);
      const sum = arena.output("f32", [1], { data: [0] });
      ops.rowCosine.sync({ a, b, ...both });
      ops.rowCosine.sync({ a, b, cosines });
      ops.rowCosine.sync({ a, b, sum });
      ops.rowCosine.sync({ a, b });
      expect(await readNumbers(cosines)).toEqual(await readNumbers(both.cosines));
      expect(await readNumbers(sum)).toEqual(await readNumbers(both.sum));
    });
  });
});

describeOp("chunks of a prompt add up", (_, device) => {
  it("blocks of 64 rows to the same bits as all at once", async () => {
    await runCase(device, "seed=183", async (arena, random) => {
      const rows = 64 * 3;
      const values = () => makeValues("normal", rows * 40, "f32", random);
      const a = arena.input("f32", [rows, 40], values());
      const b = arena.input("f32", [rows, 40], values());
      const whole = arena.output("f32", [1], { data: [0] });
      const chunked = arena.output("f32", [1], { data: [0] });
      ops.rowCosine.sync({ a, b, sum: whole });
      for (let from = 0; from < rows; from += 64) {
        const chunk = { offset: from * 40, shape: [64, 40] };
        ops.rowCosine.sync({ a: a.view(chunk), b: b.view(chunk), sum: chunked });
      }
      expect(await readNumbers(chunked)).toEqual(await readNumbers(whole));
    });
  });
});
