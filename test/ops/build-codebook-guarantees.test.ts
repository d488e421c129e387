// What a codebook promises, computed in float64 from what the op wrote: every member is above theta of its codeword,
// greedy codewords stay apart, and refinement breaks neither and only lowers the error.
import { expect, it } from "vitest";
import { describeOp, runCases } from "../harness/backends.ts";
import { matrix } from "../harness/cases.ts";
import { buildAll, makeRows, ROW_KINDS, type RowKind } from "../harness/codebook.ts";
import { codewordBound, squaredErrorSlack } from "../harness/tolerance.ts";
import { meanSquaredError } from "../oracle/build-codebook.ts";
import type { FloatDType } from "../oracle/float-formats.ts";

interface Guarantee {
  readonly dtype: FloatDType;
  readonly D: number;
  readonly T: number;
  readonly theta: number;
  readonly kind: RowKind;
  readonly refine: number;
}

const guarantees = matrix<Guarantee>(
  {
    dtype: ["f32", "f16", "bf16"],
    D: [32, 64, 128],
    T: [2, 33, 90],
    theta: [0.5, 0.9, 0.98],
    kind: ROW_KINDS,
    refine: [1, 4],
  },
  { seed: 171, isLarge: (c) => c.T * c.T * c.D > 300_000 },
);

function cosine(
  a: ArrayLike<number>,
  aAt: number,
  b: ArrayLike<number>,
  bAt: number,
  D: number,
): number {
  let product = 0;
  let aa = 0;
  let bb = 0;
  for (let d = 0; d < D; d++) {
    product += a[aAt + d] * b[bAt + d];
    aa += a[aAt + d] ** 2;
    bb += b[bAt + d] ** 2;
  }
  return aa === 0 || bb === 0 ? 0 : product / Math.sqrt(aa * bb);
}

// Rows that float32 sees as zero (subnormal ones too) have no direction to compare.
function hasDirection(x: Float32Array, row: number, D: number): boolean {
  let square = 0;
  for (let d = 0; d < D; d++) square = Math.fround(square + Math.fround(x[row * D + d] ** 2));
  return square > 1e-30;
}

describeOp(
  "greedy codebooks keep members close and codewords apart; refinement keeps the first",
  (backend, device) => {
    for (const kind of ROW_KINDS) {
      it(`rows: ${kind}`, async () => {
        const cases = guarantees.casesFor(backend).filter((c) => c.kind === kind);
        await runCases(device, cases, async (c, arena, random) => {
          const { D, T: n, dtype, theta } = c;
          const x = makeRows(kind, n, D, dtype, random);
          const values = { x, n, headDim: D, dtype, theta };
          const greedy = await buildAll(arena, values);
          const refined = await buildAll(arena, { ...values, refine: c.refine });
          const epsilon = codewordBound(D, dtype);
          for (const { labels, codewords } of [greedy, refined]) {
            labels.forEach((label, i) => {
              if (!hasDirection(x, i, D)) return;
              const similarity = cosine(x, i * D, codewords, label * D, D);
              expect(similarity, `row ${i} to its codeword ${label}`).toBeGreaterThan(
                theta - epsilon,
              );
            });
          }
          const leaders = greedy.leaders.slice(0, greedy.count);
          leaders.forEach((a, i) => {
            for (const b of leaders.slice(i + 1)) {
              const similarity = cosine(x, a * D, x, b * D, D);
              expect(similarity, `leaders ${a} and ${b}`).toBeLessThan(theta + epsilon);
            }
          });
          const error = (result: typeof greedy) =>
            meanSquaredError(values, result.labels, result.codewords);
          const energy = x.reduce((sum, value) => sum + value * value, 0) / n;
          expect(error(refined)).toBeLessThanOrEqual(error(greedy) + squaredErrorSlack(energy, D));
          expect(refined.count).toBeLessThanOrEqual(greedy.count);
        });
      });
    }
  },
);

describeOp("the awkward inputs give the codebooks they must", (_, device) => {
  const counts: [RowKind, number, number][] = [
    ["equal", 50, 1],
    ["zeros", 50, 1],
    ["orthogonal", 50, 50],
  ];
  for (const [kind, n, count] of counts) {
    it(`${n} ${kind} rows: ${count} codewords`, async () => {
      const one = [{ id: `seed=172 ${kind}`, seed: 172 }];
      await runCases(device, one, async (_case, arena, random) => {
        for (const theta of [0.5, 1]) {
          const x = makeRows(kind, n, 64, "f32", random);
          const got = await buildAll(arena, { x, n, headDim: 64, dtype: "f32", theta, refine: 1 });
          expect(got.count).toBe(count);
          expect(new Set(got.labels).size).toBe(count);
          if (kind === "zeros") expect(got.codewords.every((w) => w === 0)).toBe(true);
        }
      });
    });
  }
  it("duplicates of k rows at theta 1: k codewords", async () => {
    await runCases(device, [{ id: "seed=173", seed: 173 }], async (_case, arena, random) => {
      const rows = makeRows("normal", 7, 64, "f16", random);
      const x = Float32Array.from({ length: 40 * 64 }, (_, i) => rows[i % rows.length]);
      const got = await buildAll(arena, { x, n: 40, headDim: 64, dtype: "f16", theta: 1 });
      expect(got.count).toBe(7);
      got.labels.forEach((label, i) => {
        expect(label).toBe(got.labels[i % 7]);
      });
    });
  });
});
