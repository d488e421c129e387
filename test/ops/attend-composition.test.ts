// Attention over a list of runs is attention over their slots: cutting, beta merging, and partials.
import { expect, it } from "vitest";
import { checkAttend, runAttend } from "../harness/attention.ts";
import { describeOp, runCase, runCases } from "../harness/backends.ts";
import { large, matrix } from "../harness/cases.ts";
import { compareWithin } from "../harness/compare.ts";
import { cutHead, lastPosition, logitScaleOf, makeHead, sliceRun } from "../harness/heads.ts";
import type { Prng } from "../harness/prng.ts";
import { attentionFloor } from "../harness/tolerance.ts";
import { makeValues } from "../harness/values.ts";
import type { FloatDType } from "../oracle/float-formats.ts";
import type { HeadValues, QueryValues, RunValues } from "../oracle/types.ts";

const HEAD_DIM = 64;
const GROUP = 4;

function queryOver(
  random: Prng,
  heads: readonly HeadValues[],
  dtype: FloatDType,
  queries = 1,
  headDim = HEAD_DIM,
): QueryValues {
  const queryPosition = Math.max(0, lastPosition(heads) - queries + 1);
  return {
    headDim,
    group: GROUP,
    queries,
    q: makeValues("normal", heads.length * GROUP * queries * headDim, dtype, random.fork("q")),
    heads,
    scale: 1 / Math.sqrt(headDim),
    causal: true,
    queryPosition,
    ropeQueryPosition: queryPosition,
    reindex: false,
  };
}

interface Cut {
  readonly dtype: FloatDType;
  readonly codec: "raw" | "codebook";
  readonly size: number;
  readonly T: number;
  readonly Tq: number;
}

const cuts = matrix<Cut>(
  {
    dtype: ["f32", "f16", "bf16"],
    codec: ["raw", "codebook"],
    size: [1, 7, 16, 64, 100],
    T: [65, 130, large(1025)],
    Tq: [1, 6],
  },
  { seed: 41, allow: ({ size, T }) => T / size <= 70 },
);

describeOp("the result does not depend on how the slots are cut into runs", (backend, device) => {
  it("within the tolerance of the whole head's attention", async () => {
    await runCases(device, cuts.casesFor(backend), async (c, arena, random) => {
      const head = makeHead(random, {
        headDim: HEAD_DIM,
        dtype: c.dtype,
        slots: c.T,
        codec: c.codec,
        hasBeta: true,
      });
      const values = queryOver(random, [head], c.dtype, c.Tq);
      const setting = { dtype: c.dtype, qDtype: "f32" as const };
      const whole = await checkAttend(arena, values, setting);
      const cut = await checkAttend(
        arena,
        { ...values, heads: [cutHead(head, c.size, HEAD_DIM)] },
        setting,
      );
      const largest = (data: ArrayLike<number>) =>
        Array.from(data).reduce((a, b) => Math.max(a, Math.abs(b)), 0);
      const floor = attentionFloor({
        ...logitScaleOf(values),
        dtype: c.dtype,
        outDtype: "f32",
        largestOutput: largest(whole.out),
        largestValue:
          largest(head.flatMap((run) => Array.from(run.v))) * (c.codec === "raw" ? 1 : HEAD_DIM),
      });
      compareWithin("cut against whole", cut.out, whole.out, { element: () => 2 * floor });
    });
  });
});

interface Paged {
  readonly dtype: FloatDType;
  readonly headDim: number;
  /** Slots of the segment in front of the pages. */
  readonly lead: number;
  readonly T: number;
  readonly Tq: number;
}

const paged = matrix<Paged>(
  {
    dtype: ["f32", "f16", "bf16"],
    headDim: [32, 64, 80, 128],
    lead: [0, 1, 40, 63, 65, 130],
    T: [192, 193, 300, large(2049)],
    Tq: [1, 2],
  },
  { seed: 44, allow: ({ lead, T }) => lead < T },
);

describeOp("pages of 64 slots behind a segment of any length", (backend, device) => {
  it("give the oracle's attention", async () => {
    await runCases(device, paged.casesFor(backend), async (c, arena, random) => {
      const { dtype, headDim, lead, T, Tq } = c;
      const [run] = makeHead(random, { headDim, dtype, slots: T });
      const pages = cutHead([sliceRun(run, lead, T, headDim)], 64, headDim);
      const head = lead === 0 ? pages : [sliceRun(run, 0, lead, headDim), ...pages];
      const values = queryOver(random, [head], dtype, Tq, headDim);
      await checkAttend(arena, values, { dtype, qDtype: "f32" });
    });
  });
});

describeOp("one slot with beta = ln(sum of masses) stands for slots of equal keys", (_, device) => {
  for (const dtype of ["f32", "f16", "bf16"] as const) {
    it(`their weighted mean value gives the same attention, ${dtype}`, async () => {
      await runCase(device, `seed=42 ${dtype}`, async (arena, random) => {
        const [run] = makeHead(random, { headDim: HEAD_DIM, dtype, slots: 40 });
        // Slots 4..7 get the key of slot 4 and values that average exactly.
        const k = run.k.slice();
        const v = run.v.slice();
        for (let slot = 4; slot < 8; slot++) {
          k.copyWithin(slot * HEAD_DIM, 4 * HEAD_DIM, 5 * HEAD_DIM);
          v.fill(slot - 4, slot * HEAD_DIM, (slot + 1) * HEAD_DIM);
        }
        const full: RunValues = { ...run, k, v };
        const keep = [0, 1, 2, 3, 4, ...Array.from({ length: 32 }, (_, i) => 8 + i)];
        const rows = (data: Float32Array) =>
          Float32Array.from(
            keep.flatMap((s) => Array.from(data.subarray(s * HEAD_DIM, (s + 1) * HEAD_DIM))),
          );
        const merged: RunValues = {
          ...full,
          slots: keep.length,
          k: rows(k),
          v: rows(v).fill(1.5, 4 * HEAD_DIM, 5 * HEAD_DIM),
          positions: Int32Array.from(keep, (s) => run.positions[s]),
          beta: Float32Array.from(keep, (s) => (s === 4 ? Math.log(4) : 0)),
        };
        const values = queryOver(random, [[full]], dtype);
        const setting = { dtype, qDtype: "f32" as const };
        const before = await checkAttend(arena, values, setting);
        const after = await checkAttend(arena, { ...values, heads: [[merged]] }, setting);
        const floor = attentionFloor({
          ...logitScaleOf({ ...values, heads: [[merged]] }),
          dtype,
          outDtype: "f32",
          largestOutput: 3,
          largestValue: v.reduce((a, b) => Math.max(a, Math.abs(b)), 0),
        });
        compareWithin("merged against full", after.out, before.out, { element: () => 2 * floor });
        compareWithin("lse", after.lse, before.lse, { element: () => 2 * floor });
      });
    });
  }
});

describeOp("heads are independent", (_, device) => {
  it("a head alone gives the bits it gives beside others, and so does a query alone", async () => {
    await runCase(device, "seed=43", async (arena, random) => {
      const heads = [97, 5, 64].map((slots, h) =>
        makeHead(random.fork(`${h}`), {
          headDim: HEAD_DIM,
          dtype: "f16",
          slots,
          codec: "mixed",
          runs: 2,
        }),
      );
      const values = queryOver(random, heads, "f16");
      const setting = { dtype: "f16", qDtype: "f16" } as const;
      const together = await runAttend(arena, values, setting);
      for (let h = 0; h < heads.length; h++) {
        const size = GROUP * HEAD_DIM;
        const q = values.q.slice(h * size, (h + 1) * size);
        const alone = await runAttend(arena, { ...values, q, heads: [heads[h]] }, setting);
        expect(Array.from(alone.out)).toEqual(
          Array.from(together.out).slice(h * size, (h + 1) * size),
        );
      }
    });
  });
});

describeOp("a scale of zero and a negative scale are numbers like others", (_, device) => {
  it("zero gives the mean of the values, a negative one prefers the opposite", async () => {
    for (const scale of [0, -0.5]) {
      await runCase(device, `seed=44 scale=${scale}`, async (arena, random) => {
        const head = makeHead(random, { headDim: HEAD_DIM, dtype: "f32", slots: 50 });
        const values = { ...queryOver(random, [head], "f32"), scale };
        await checkAttend(arena, values, { dtype: "f32", qDtype: "f32" });
      });
    }
  });
});
