// RoPE while attention reads: queries by their position, unrotated keys by theirs, rotated keys not again.
import { it } from "vitest";
import { checkAttend, runAttend } from "../harness/attention.ts";
import { describeOp, runCase, runCases } from "../harness/backends.ts";
import { matrix } from "../harness/cases.ts";
import { compareWithin } from "../harness/compare.ts";
import { lastPosition, logitScaleOf, makeHead, makeRope } from "../harness/heads.ts";
import { attentionFloor } from "../harness/tolerance.ts";
import { makeValues } from "../harness/values.ts";
import type { FloatDType } from "../oracle/float-formats.ts";
import { rotateRowTwin } from "../oracle/rope.ts";
import type { QueryValues } from "../oracle/types.ts";

interface Rotation {
  readonly dtype: FloatDType;
  readonly D: number;
  readonly style: "norm" | "neox";
  /** Share of the head dim that turns. */
  readonly share: number;
  readonly rotated: boolean | "mixed";
  readonly reindex: boolean;
  readonly codec: "raw" | "codebook" | "mixed";
  readonly Tq: number;
  readonly step: number;
}

const rotations = matrix<Rotation>(
  {
    dtype: ["f32", "f16", "bf16"],
    D: [8, 64, 80, 128],
    style: ["norm", "neox"],
    share: [1, 0.5, 0.25],
    rotated: [false, true, "mixed"],
    reindex: [true, false],
    codec: ["raw", "codebook", "mixed"],
    Tq: [1, 7, 33],
    step: [1, 3],
  },
  // Rotated keys cannot be reindexed: that is an argument error.
  { seed: 51, allow: (c) => !(c.reindex && c.rotated !== false) },
);

describeOp("queries and unrotated keys turn while they are read", (backend, device) => {
  for (const style of ["norm", "neox"] as const) {
    it(`${style}: partial dims, codebook keys, reindexing, runs of both kinds`, async () => {
      const cases = rotations.casesFor(backend).filter((c) => c.style === style);
      await runCases(device, cases, async (c, arena, random) => {
        const heads = [66, 9].map((slots, h) =>
          makeHead(random.fork(`${h}`), {
            headDim: c.D,
            dtype: c.dtype,
            slots,
            codec: c.codec,
            runs: 3,
            rotated: c.rotated,
            step: c.step,
          }),
        );
        const queryPosition = Math.max(0, lastPosition(heads) - c.Tq + 1);
        const values: QueryValues = {
          headDim: c.D,
          group: 2,
          queries: c.Tq,
          q: makeValues("normal", 4 * c.Tq * c.D, c.dtype, random.fork("q")),
          heads,
          scale: 1 / Math.sqrt(c.D),
          causal: true,
          queryPosition,
          ropeQueryPosition: c.reindex ? 66 : queryPosition,
          reindex: c.reindex,
          rope: makeRope({ positions: 256, nRot: c.D * c.share, style: c.style }),
        };
        await checkAttend(arena, values, { dtype: c.dtype, qDtype: c.dtype, scoreMode: "kv-head" });
      });
    });
  }
});

describeOp("rotating on read equals storing rotated keys", (_, device) => {
  for (const style of ["norm", "neox"] as const) {
    it(`in float32, ${style}`, async () => {
      await runCase(device, `seed=52 ${style}`, async (arena, random) => {
        const headDim = 64;
        const rope = makeRope({ positions: 128, nRot: headDim, style });
        const [run] = makeHead(random, { headDim, dtype: "f32", slots: 90 });
        const k = run.k.slice();
        for (let s = 0; s < run.slots; s++) {
          const row = Array.from(run.k.subarray(s * headDim, (s + 1) * headDim));
          k.set(rotateRowTwin(row, run.positions[s], rope), s * headDim);
        }
        const values: QueryValues = {
          headDim,
          group: 4,
          queries: 1,
          q: makeValues("normal", 4 * headDim, "f32", random.fork("q")),
          heads: [[run]],
          scale: 1 / Math.sqrt(headDim),
          causal: true,
          queryPosition: 89,
          ropeQueryPosition: 89,
          reindex: false,
          rope,
        };
        const setting = { dtype: "f32", qDtype: "f32" } as const;
        const onRead = await runAttend(arena, values, setting);
        const stored = await runAttend(
          arena,
          { ...values, heads: [[{ ...run, k, rotated: true }]] },
          setting,
        );
        const floor = attentionFloor({
          ...logitScaleOf(values),
          ...{ dtype: "f32", outDtype: "f32", largestOutput: 4, largestValue: 4 },
        });
        compareWithin("out", onRead.out, Array.from(stored.out), { element: () => floor });
      });
    });
  }
});

describeOp("only the distance between query and key matters", (_, device) => {
  it("all positions moved by the same amount give the same attention", async () => {
    await runCase(device, "seed=53", async (arena, random) => {
      const headDim = 64;
      const [run] = makeHead(random, { headDim, dtype: "f32", slots: 40, step: 2 });
      const values: QueryValues = {
        headDim,
        group: 2,
        queries: 1,
        q: makeValues("normal", 2 * headDim, "f32", random.fork("q")),
        heads: [[run]],
        scale: 1 / Math.sqrt(headDim),
        causal: true,
        queryPosition: 90,
        ropeQueryPosition: 90,
        reindex: false,
        rope: makeRope({ positions: 512, nRot: headDim, style: "neox" }),
      };
      const setting = { dtype: "f32", qDtype: "f32" } as const;
      const here = await checkAttend(arena, values, setting);
      const moved = { ...run, positions: run.positions.map((p) => p + 300) };
      const there = await checkAttend(
        arena,
        { ...values, heads: [[moved]], queryPosition: 390, ropeQueryPosition: 390 },
        setting,
      );
      const floor = attentionFloor({
        ...logitScaleOf(values),
        ...{ dtype: "f32", outDtype: "f32", largestOutput: 4, largestValue: 4 },
      });
      compareWithin("out", here.out, Array.from(there.out), { element: () => 2 * floor });
    });
  });
});

describeOp("rows of a table may have any length", (_, device) => {
  // Keys are turned by angles taken out of the table, which a length near the end of float32 would not give.
  for (const length of [1e-40, 1e-30, 0.7, 1.4]) {
    it(`length ${length}`, async () => {
      await runCase(device, `seed=54 ${length}`, async (arena, random) => {
        const headDim = 64;
        const heads = [makeHead(random, { headDim, dtype: "f16", slots: 150 })];
        const unit = makeRope({ positions: 256, nRot: headDim, style: "norm" });
        const values: QueryValues = {
          headDim,
          group: 2,
          queries: 1,
          q: makeValues("normal", 2 * headDim, "f32", random.fork("q")),
          heads,
          scale: 1 / Math.sqrt(headDim),
          causal: true,
          queryPosition: 149,
          ropeQueryPosition: 149,
          reindex: false,
          rope: { ...unit, cosSin: unit.cosSin.map((x) => x * length) },
        };
        await checkAttend(arena, values, { dtype: "f16", qDtype: "f32" });
      });
    });
  }
});
