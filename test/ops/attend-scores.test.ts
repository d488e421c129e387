// Score accumulation fused into attend: absolute sums, checked against the dense oracle. Averaging where
// a sum is due would pass any top-k comparison; these tests compare the numbers themselves.
import { expect, it } from "vitest";
import { ops } from "../harness/api.ts";
import { compareAttend, placeAttend, readAttend } from "../harness/attention.ts";
import { describeOp, runCase, runCases } from "../harness/backends.ts";
import { matrix } from "../harness/cases.ts";
import { lastPosition, makeHead } from "../harness/heads.ts";
import type { Layout } from "../harness/layouts.ts";
import { makeValues } from "../harness/values.ts";
import type { FloatDType } from "../oracle/float-formats.ts";
import type { QueryValues } from "../oracle/types.ts";

interface Accumulation {
  readonly dtype: FloatDType;
  readonly scoreMode: "query-head" | "kv-head";
  readonly G: number;
  readonly Tq: number;
  readonly D: number;
  readonly T: number;
  readonly codec: "raw" | "codebook" | "mixed";
  readonly layout: Layout;
  readonly calls: number;
  readonly mask: boolean;
}

const accumulation = matrix<Accumulation>(
  {
    dtype: ["f32", "f16", "bf16"],
    scoreMode: ["query-head", "kv-head"],
    G: [1, 3, 4, 8, 16],
    Tq: [1, 5, 20],
    D: [32, 64, 128],
    T: [1, 33, 64, 97],
    codec: ["raw", "codebook", "mixed"],
    layout: ["contiguous", "padded", "sliced"],
    calls: [1, 3],
    mask: [true, false],
  },
  { seed: 61, isLarge: (c) => c.G * c.Tq * c.calls > 100 },
);

describeOp("accumulated scores are the absolute sums of the probabilities", (backend, device) => {
  for (const scoreMode of ["query-head", "kv-head"] as const) {
    it(`per ${scoreMode}, over queries and calls`, async () => {
      const cases = accumulation.casesFor(backend).filter((c) => c.scoreMode === scoreMode);
      await runCases(device, cases, async (c, arena, random) => {
        const heads = [c.T, 7].map((slots, h) =>
          makeHead(random.fork(`${h}`), {
            headDim: c.D,
            dtype: c.dtype,
            slots,
            codec: c.codec,
            runs: 2,
            group: c.G,
            hasMask: c.mask,
          }),
        );
        const queryPosition = Math.max(0, lastPosition(heads) - c.Tq + 1);
        const values: QueryValues = {
          headDim: c.D,
          group: c.G,
          queries: c.Tq,
          q: makeValues("normal", 2 * c.G * c.Tq * c.D, c.dtype, random.fork("q")),
          heads,
          scale: 1 / Math.sqrt(c.D),
          causal: true,
          queryPosition,
          ropeQueryPosition: queryPosition,
          reindex: false,
        };
        const setting = { ...c, qDtype: c.dtype, scoreStart: 0.25 };
        const params = placeAttend(arena, values, setting);
        for (let call = 0; call < c.calls; call++) ops.attend.sync(params);
        compareAttend(values, setting, await readAttend(params), c.calls);
      });
    });
  }
});

describeOp("a group of G heads with T queries puts mass G * T on its KV head", (_, device) => {
  it("eight heads and three queries: twenty-four, not three, not one", async () => {
    await runCase(device, "seed=62 G=8 Tq=3", async (arena, random) => {
      const head = makeHead(random, { headDim: 64, dtype: "f32", slots: 50 });
      const values: QueryValues = {
        headDim: 64,
        group: 8,
        queries: 3,
        q: makeValues("normal", 8 * 3 * 64, "f32", random.fork("q")),
        heads: [head],
        scale: 0.125,
        causal: true,
        queryPosition: 47,
        ropeQueryPosition: 47,
        reindex: false,
      };
      const total = async (scoreMode: "query-head" | "kv-head") => {
        const params = placeAttend(arena, values, { dtype: "f32", qDtype: "f32", scoreMode });
        ops.attend.sync(params);
        return Array.from((await readAttend(params)).scoreSum!).reduce((a, b) => a + b);
      };
      expect(await total("kv-head")).toBeCloseTo(24, 4);
      expect(await total("query-head")).toBeCloseTo(24, 4);
    });
  });
});

describeOp("accumulated scores of a long context", (backend, device) => {
  const [long, short] = backend === "cpu" ? [9001, 5200] : [1500, 130];

  it.each([
    ["query-head", 1],
    ["kv-head", 1],
    ["kv-head", 3],
  ] as const)(
    "are sums over pieces of different lengths, per %s, %i queries",
    async (scoreMode, queries) => {
      await runCase(device, `seed=65 ${scoreMode} Tq=${queries}`, async (arena, random) => {
        const [headDim, group] = [16, 3];
        const heads = [long, short].map((slots, h) =>
          makeHead(random.fork(`${h}`), {
            headDim,
            dtype: "f16",
            slots,
            runs: 4,
            group,
            hasMask: h === 1,
          }),
        );
        const queryPosition = lastPosition(heads) - queries + 1;
        const values: QueryValues = {
          headDim,
          group,
          queries,
          q: makeValues("normal", 2 * group * queries * headDim, "f16", random.fork("q")),
          heads,
          scale: 2, // logits far apart: the maximum moves on from tile to tile
          causal: true,
          queryPosition,
          ropeQueryPosition: queryPosition,
          reindex: false,
        };
        const setting = {
          layout: "contiguous",
          qDtype: "f16",
          dtype: "f16",
          scoreMode,
          scoreStart: 0,
        } as const;
        const params = placeAttend(arena, values, setting);
        ops.attend.sync(params);
        compareAttend(values, setting, await readAttend(params), 1);
      });
    },
  );
});
