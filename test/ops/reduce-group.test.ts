// reduce_group: mean, max or sum over the query heads of a group, in ascending order.
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
import { reduceGroupOracle, reduceGroupTwin } from "../oracle/reduce-group.ts";

interface Reduction {
  readonly T: number;
  readonly G: number;
  readonly rows: number;
  readonly kind: "mean" | "max" | "sum";
  readonly layout: Layout;
  readonly pattern: Pattern;
}

const reduction = matrix<Reduction>(
  {
    T: [0, 1, 2, 31, 32, 33, 63, 64, 65, 97, 1025, large(4097)],
    G: [1, 3, 4, 8, 16],
    rows: [0, 1, 5],
    kind: ["mean", "max", "sum"],
    layout: ["contiguous", "padded", "sliced"],
    pattern: PATTERNS,
  },
  { seed: 91 },
);

async function check(c: Case<Reduction>, arena: Arena, random: Prng): Promise<void> {
  const { T, G, rows, kind, layout, pattern } = c;
  // No negative zero: the sign of a sum of zeros is not part of the contract.
  const data = makeValues(pattern, rows * G * T, "f32", random).map((x) => (x === 0 ? 0 : x));
  const out = arena.output("f32", [rows, T], { layout, name: "out" });
  await invoke(random, ops.reduceGroup, {
    in: arena.input("f32", [rows * G, T], data, { layout, name: "in" }),
    out,
    group: G,
    kind,
  });
  const got = await readNumbers(out);
  const values = {
    rows: Array.from({ length: rows * G }, (_, r) => data.slice(r * T, (r + 1) * T)),
    group: G,
    kind,
  };
  const flat = (parts: Float64Array[]) => parts.flatMap((row) => Array.from(row));
  compareExact("out", got, flat(reduceGroupTwin(values)));
  const largest = data.reduce((a, b) => (Math.abs(b) > a ? Math.abs(b) : a), 0);
  compareWithin("out against float64", got, flat(reduceGroupOracle(values)), {
    element: () => (kind === "max" ? 0 : sumBound(G * largest, G, 1)),
  });
}

describeOp("reducing a group has the bits of the ascending sum", (backend, device) => {
  for (const kind of ["mean", "max", "sum"] as const) {
    it(`${kind} over every length, group and value pattern`, async () => {
      const cases = reduction.casesFor(backend).filter((c) => c.kind === kind);
      await runCases(device, cases, check);
    });
  }
});
