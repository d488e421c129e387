// pool_scores: 1-D pooling whose edges are exact.
import { it } from "vitest";
import { ops } from "../harness/api.ts";
import { describeOp, invoke, runCases } from "../harness/backends.ts";
import { type Case, large, matrix } from "../harness/cases.ts";
import { compareExact, compareWithin } from "../harness/compare.ts";
import type { Layout } from "../harness/layouts.ts";
import type { Prng } from "../harness/prng.ts";
import { type Arena, readNumbers } from "../harness/tensors.ts";
import { sumBound } from "../harness/tolerance.ts";
import { makeValues, PATTERNS, type Pattern } from "../harness/values.ts";
import { poolScoresOracle, poolScoresTwin } from "../oracle/pool-scores.ts";

interface Pooling {
  readonly T: number;
  readonly kernel: number;
  readonly kind: "mean" | "max";
  readonly divisor: "kernel" | "valid";
  readonly rows: number;
  readonly layout: Layout;
  readonly pattern: Pattern;
}

const pooling = matrix<Pooling>(
  {
    T: [0, 1, 2, 31, 32, 33, 63, 64, 65, 97, 1025, large(4097)],
    kernel: [1, 3, 5, 7, 13, 63, 201],
    kind: ["mean", "max"],
    divisor: ["kernel", "valid"],
    rows: [1, 5],
    layout: ["contiguous", "padded", "sliced"],
    pattern: PATTERNS,
  },
  { seed: 81, isLarge: (c) => c.rows * c.T * c.kernel > 200_000 },
);

// Row r of a case is shorter than the widest by r, so that rows are ragged.
async function check(c: Case<Pooling>, arena: Arena, random: Prng): Promise<void> {
  const width = Math.max(1, c.T);
  const data = makeValues(c.pattern, c.rows * width, "f32", random).map((x) => (x === 0 ? 0 : x));
  const lengths = Array.from({ length: c.rows }, (_, r) => Math.max(0, c.T - r));
  const out = arena.output("f32", [c.rows, width], { layout: c.layout, name: "out" });
  const before = await readNumbers(out);
  await invoke(random, ops.poolScores, {
    in: arena.input("f32", [c.rows, width], data, { layout: c.layout, name: "in" }),
    out,
    lengths,
    kernel: c.kernel,
    kind: c.kind,
    divisor: c.divisor,
  });
  const got = Array.from(await readNumbers(out));
  const rows = lengths.map((length, r) => data.slice(r * width, r * width + length));
  const twin = poolScoresTwin({ ...c, rows });
  const oracle = poolScoresOracle({ ...c, rows });
  lengths.forEach((length, r) => {
    const row = got.slice(r * width, (r + 1) * width);
    compareExact(`row ${r}`, row.slice(0, length), twin[r]);
    compareExact(
      `row ${r} past its length`,
      row.slice(length),
      Array.from(before).slice(r * width + length, (r + 1) * width),
    );
    const largest = rows[r].reduce((a, b) => (Math.abs(b) > a ? Math.abs(b) : a), 0);
    compareWithin(`row ${r} against float64`, row.slice(0, length), oracle[r], {
      element: () =>
        c.kind === "max" ? 0 : sumBound(Math.min(c.kernel, length) * largest, c.kernel, 1),
    });
  });
}

describeOp("pooling has the bits of the ascending sum, edges included", (backend, device) => {
  for (const kind of ["mean", "max"] as const) {
    it(`${kind} over every length, kernel and value pattern`, async () => {
      const cases = pooling.casesFor(backend).filter((c) => c.kind === kind);
      await runCases(device, cases, check);
    });
  }
});
