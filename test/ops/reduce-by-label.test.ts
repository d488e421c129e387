// reduce_by_label: counting sort and weighted sums, in ascending row order, bit for bit.
import { it } from "vitest";
import { ops } from "../harness/api.ts";
import { describeOp, invoke, runCases } from "../harness/backends.ts";
import { large, matrix } from "../harness/cases.ts";
import { compareExact, compareWithin } from "../harness/compare.ts";
import type { Layout } from "../harness/layouts.ts";
import { type Arena, readNumbers } from "../harness/tensors.ts";
import type { Prng } from "../harness/prng.ts";
import { sumBound } from "../harness/tolerance.ts";
import { makeValues, PATTERNS, type Pattern } from "../harness/values.ts";
import type { FloatDType } from "../oracle/float-formats.ts";
import { reduceByLabelOracle, reduceByLabelTwin } from "../oracle/reduce-by-label.ts";

interface Reduction {
  readonly dtype: FloatDType;
  readonly D: number;
  readonly T: number;
  readonly C: number;
  readonly labels: "mixed" | "one" | "outside" | "partly-outside";
  readonly weights: boolean;
  readonly x: boolean;
  readonly layout: Layout;
  readonly pattern: Pattern;
}

const reductions = matrix<Reduction>(
  {
    dtype: ["f32", "f16", "bf16"],
    D: [8, 32, 64, 80, 96, 112, 128, 256, 512],
    T: [0, 1, 2, 31, 33, 65, 97, large(1025), large(4097)],
    C: [1, 2, 31, 65, 300],
    labels: ["mixed", "one", "outside", "partly-outside"],
    weights: [true, false],
    x: [true, false],
    layout: ["contiguous", "padded", "sliced"],
    pattern: PATTERNS,
  },
  { seed: 151, allow: (c) => c.T * c.D <= 6e5, isLarge: (c) => c.T * c.D > 30_000 },
);

/** A problem with its outputs, and what compares them with the oracle. */
function problemOf(
  c: Reduction,
  { n, nLabels }: { readonly n: number; readonly nLabels: number },
  arena: Arena,
  random: Prng,
) {
  const { dtype, D: headDim, labels } = c;
  const labelOf = () => {
    if (labels === "one") return nLabels - 1;
    if (labels === "outside") return random.pick([-1, -7, nLabels, 2 ** 31 - 1]);
    return random.integer(labels === "mixed" ? 0 : -nLabels, nLabels - 1);
  };
  const values = {
    headDim,
    nLabels,
    labels: Int32Array.from({ length: n }, labelOf),
    ...(c.x && { x: makeValues(c.pattern, n * headDim, dtype, random) }),
    ...(c.weights && { weights: makeValues("normal", n, "f32", random) }),
  };
  const counts = arena.output("i32", [nLabels], { name: "counts" });
  const offsets = arena.output("i32", [nLabels + 1], { name: "offsets" });
  const order = arena.output("i32", [n], { name: "order" });
  const sums = c.x ? arena.output("f32", [nLabels, headDim], { name: "sums" }) : undefined;
  const problem = {
    ...(values.x && {
      x: arena.input(dtype, [n, headDim], values.x, { layout: c.layout, name: "x" }),
    }),
    labels: arena.input("i32", [n], values.labels, { name: "labels" }),
    ...(values.weights && {
      weights: arena.input("f32", [n], values.weights, { name: "weights" }),
    }),
    ...{ nLabels, sums, counts, offsets, order },
  };
  const check = async () => {
    const twin = reduceByLabelTwin(values);
    compareExact("counts", await readNumbers(counts), twin.counts);
    compareExact("offsets", await readNumbers(offsets), twin.offsets);
    const gotOrder = Array.from(await readNumbers(order)).slice(0, twin.order.length);
    compareExact("order", gotOrder, twin.order);
    if (sums === undefined) return;
    const got = await readNumbers(sums);
    compareExact("sums", got, twin.sums);
    if (c.pattern !== "normal") return;
    const magnitudes = reduceByLabelOracle({
      ...values,
      x: values.x!.map(Math.abs),
      weights: values.weights?.map(Math.abs),
    });
    compareWithin("sums against float64", got, reduceByLabelOracle(values).sums, {
      element: (i) => sumBound(magnitudes.sums[i], twin.counts[Math.floor(i / headDim)], 1),
    });
  };
  return { problem, check };
}

describeOp("rows grouped by label: sums, counts, offsets and order", (backend, device) => {
  for (const labels of ["mixed", "one", "outside", "partly-outside"] as const) {
    it(`labels: ${labels}`, async () => {
      const cases = reductions.casesFor(backend).filter((c) => c.labels === labels);
      await runCases(device, cases, async (c, arena, random) => {
        const { T: n, C: nLabels } = c;
        const problems = [];
        const checks: (() => Promise<void>)[] = [];
        // Problems of other sizes beside it share the launches.
        const sizes = [
          { n, nLabels },
          ...random.pick([[], [{ n: 0, nLabels: 3 }], [{ n: Math.ceil(n / 3), nLabels: 400 }]]),
        ];
        for (const size of sizes) {
          const { problem, check } = problemOf(c, size, arena, random);
          problems.push(problem);
          checks.push(check);
        }
        await invoke(random, ops.reduceByLabel, { problems });
        for (const check of checks) await check();
      });
    });
  }
});
