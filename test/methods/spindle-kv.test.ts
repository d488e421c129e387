// spindleKV(): budgets of eq. 5-6, per-head selection equal to a naively unfolded GQA, codebooks over what is kept.
import { describe, expect, it } from "vitest";
import {
  compose,
  KVCache,
  observationWindow,
  spindleKV,
  spindlePyramid,
  topK,
} from "../../lib/index.ts";
import { ask, feed, makePrompt, type Prompt } from "../cache/fixtures.ts";
import { compareAttention, denseValues, storedValues } from "../cache/reference.ts";
import { describeOp } from "../harness/backends.ts";
import { compareWithin } from "../harness/compare.ts";
import { largestValueOf, logitScaleOf } from "../harness/heads.ts";
import { Prng } from "../harness/prng.ts";
import { attentionBound } from "../harness/tolerance.ts";
import { attendNaive, attendOracle } from "../oracle/attend.ts";
import { spindleBudgets } from "../oracle/budgets.ts";
import { windowMethodKept } from "../oracle/methods.ts";
import type { QueryValues } from "../oracle/types.ts";
import type { WindowNorm } from "../oracle/window-scores.ts";
import { expectKept, storedLayer } from "./kept.ts";
import { compressAndCompare } from "./window-cases.ts";

describe("spindle budgets", () => {
  it("equal eq. 5-6, integer by integer, and sum exactly", () => {
    const random = new Prng(6);
    for (let i = 0; i < 2000; i++) {
      const layers = random.integer(1, 40);
      const context = random.integer(0, 3000);
      const total = random.integer(0, layers * context);
      const beta = random.pick([0.01, 0.05, 0.3, 0.9]);
      const id = `L=${layers} context=${context} total=${total} beta=${beta}`;
      const plan = spindlePyramid({ beta }).plan(total, { layers, context, guarded: 0 });
      expect(plan, id).toEqual(spindleBudgets(total, layers, context, beta));
      expect(
        plan.reduce((a, b) => a + b, 0),
        id,
      ).toBe(total);
    }
  });

  it("both branches meet where the first layer is full", () => {
    const shape = { layers: 2, context: 1000, guarded: 0 };
    expect(spindlePyramid().plan(1050, shape)).toEqual([1000, 50]);
    expect(spindlePyramid().plan(1052, shape)).toEqual([1000, 52]);
    expect(spindlePyramid().plan(2000, shape)).toEqual([1000, 1000]);
  });

  it("refuses a beta that is no fraction", () => {
    for (const beta of [0, 1, -0.1, Number.NaN]) {
      expect(() => spindlePyramid({ beta })).toThrowError(
        expect.objectContaining({ code: "ERR_SPINDLEKV_ARGUMENT", op: "spindlePyramid" }),
      );
    }
  });
});

/** The same layer without GQA: K and V repeated for every query head, each of which is then alone with its own. */
function unfolded(values: QueryValues): QueryValues {
  const heads = values.heads.flatMap((head) => new Array(values.group).fill(head));
  return { ...values, heads, group: 1 };
}

describeOp("spindleKV", (backend, device) => {
  const isSlow = backend === "simt";
  const tokens = isSlow ? 14 : 80;
  const window = isSlow ? 2 : 8;
  const target = isSlow ? 7 : 26;
  const rope = { theta: 10_000, style: "neox" } as const;

  for (const group of isSlow ? [3] : [1, 3, 4, 8]) {
    for (const norm of ["window", "causalCount"] as const) {
      it(`visibility "head" is the unfolded method, ${group} heads a group, norm ${norm}`, async () => {
        const shape = { layers: 2, queryHeads: 2 * group, kvHeads: 2, headDim: 16 } as const;
        const prompt = makePrompt({ ...shape, dtype: "f16" }, tokens, { seed: 30 + group });
        const score = observationWindow({ window, norm, group: "unfold", pool: null });
        const method = compose({
          id: "unfolded",
          target: { tokens: target },
          score,
          budget: spindlePyramid(),
          select: topK({ visibility: "head" }),
        });
        using cache = new KVCache(device, { ...shape, rope, preRopeKeys: true, method });
        await feed(cache, prompt, { attended: window });
        await cache.compress();
        const context = tokens - window;
        const budgets = spindleBudgets(2 * (target - window), 2, context, 0.05);
        const outputs = await ask(cache, prompt, tokens - 1, tokens);
        for (const [layer, k] of budgets.entries()) {
          const asked = denseValues(prompt, { layer, from: tokens - window, to: tokens, rope });
          const chosen = windowMethodKept(unfolded(asked), { norm, group: "mean", k });
          const heads = await storedLayer(cache, layer);
          chosen.forEach(({ indices }, h) => {
            const stored = heads[Math.floor(h / group)];
            const bit = h % group;
            const visible = stored.positions.filter((_, s) => (stored.masks[s] >> bit) & 1);
            expect(Array.from(visible), `query head ${h} of layer ${layer}`).toEqual(indices);
          });
          expectUnfoldedAttention(prompt, layer, chosen, outputs[layer]);
          // A slot is stored once, however many heads chose it.
          heads.forEach((head, h) => {
            const union = new Set(
              chosen.slice(h * group, (h + 1) * group).flatMap((one) => one.indices),
            );
            expect(head.slots).toBe(union.size);
          });
        }
      });
    }
  }

  /** Dense attention of each query head over its own copy of its own slots. */
  function expectUnfoldedAttention(
    prompt: Prompt,
    layer: number,
    chosen: readonly { indices: number[] }[],
    out: Float32Array,
  ): void {
    const { headDim, queryHeads, kvHeads } = prompt.shape;
    const group = queryHeads / kvHeads;
    for (let h = 0; h < queryHeads; h++) {
      const values = denseValues(prompt, {
        layer,
        from: tokens - 1,
        to: tokens,
        rope,
        kept: () => chosen[h].indices,
      });
      const alone: QueryValues = {
        ...values,
        group: 1,
        q: values.q.subarray(h * headDim, (h + 1) * headDim),
        heads: [values.heads[Math.floor(h / group)]],
      };
      const expected = attendOracle(alone).out;
      const naive = attendNaive(alone, "f16", "f32").out;
      const worst = naive.reduce((a, x, i) => Math.max(a, Math.abs(x - expected[i])), 0);
      const bound = attentionBound(worst, {
        ...logitScaleOf(alone),
        dtype: "f16",
        outDtype: "f32",
        largestOutput: expected.reduce((a, x) => Math.max(a, Math.abs(x)), 0),
        largestValue: largestValueOf(alone.heads[0]),
      });
      const got = out.subarray(h * headDim, (h + 1) * headDim);
      compareWithin(`query head ${h} of layer ${layer}`, got, expected, { element: () => bound });
    }
  }

  it("the paper's form: per-head selection, and attention over what the codebooks give back", async () => {
    const shape = { layers: 2, queryHeads: 6, kvHeads: 2, headDim: 16, dtype: "f16" } as const;
    const prompt = makePrompt(shape, tokens, { seed: 4, clusters: [3, 0], noise: 0.05 });
    using cache = new KVCache(device, {
      ...shape,
      rope,
      method: spindleKV.paper({ tokens: target, window }),
    });
    await feed(cache, prompt, { attended: window });
    const report = await cache.compress();
    expect(report.thetas).toEqual({ k: 0.98, v: 0.95 });
    const budgets = spindleBudgets(2 * (target - window), 2, tokens - window, 0.05);
    expect(report.plan).toEqual(budgets);
    const outputs = await ask(cache, prompt, tokens - 1, tokens);
    for (const [layer, k] of budgets.entries()) {
      const options = { layer, from: tokens - window, to: tokens, rope };
      const norm: WindowNorm = "window";
      const kept = windowMethodKept(denseValues(prompt, options), { norm, group: "unfold", k });
      await expectKept(cache, layer, kept, true);
      const stored = await storedLayer(cache, layer);
      const seen = storedValues(prompt, stored, { layer, from: tokens - 1, to: tokens, rope });
      compareAttention(`layer ${layer}`, outputs[layer], seen, "f16");
      expect(cache.stats().perLayer[layer].heads.every((h) => h.encodedSlots === h.slots)).toBe(
        true,
      );
    }
  });

  it('visibility "group": what is stored is visible to every head', async () => {
    const shape = { layers: 2, queryHeads: 8, kvHeads: 2, headDim: 16, dtype: "f16" } as const;
    const budgets = spindleBudgets(2 * (target - window), 2, tokens - window, 0.05);
    using result = await compressAndCompare(
      device,
      { shape, tokens, window, rope },
      spindleKV({ tokens: target, window, group: "unfold", pool: null }),
      { group: "unfold" },
      budgets,
    );
    const { cache, prompt } = result;
    const outputs = await ask(cache, prompt, tokens - 1, tokens);
    for (const layer of [0, 1]) {
      const stored = await storedLayer(cache, layer);
      expect(stored.every((head) => head.masks.every((mask) => mask === 0xffff))).toBe(true);
      const seen = storedValues(prompt, stored, { layer, from: tokens - 1, to: tokens, rope });
      compareAttention(`layer ${layer}`, outputs[layer], seen, "f16");
    }
    expect(cache.stats().bytes.masks).toBe(0);
  });

  it("defaults, and the paper's", () => {
    expect(spindleKV({ keep: 0.2 })).toMatchObject({
      id: "spindlekv",
      budget: { id: "spindle-pyramid" },
      codec: { id: "codebook", thetaK: 0.98, thetaV: 0.95, codewords: 0 },
      select: { visibility: "group" },
    });
    expect(spindleKV.paper({ keep: 0.2 })).toMatchObject({
      id: "spindlekv-paper",
      score: { options: { norm: "window", pool: null, group: "unfold" } },
      select: { visibility: "head", sinks: 0 },
      codec: { thetaK: 0.98, thetaV: 0.95, refine: 0, codewords: 0 },
    });
    expect(spindleKV.paper({ keep: 0.2, norm: "causalCount" })).toMatchObject({
      score: { options: { norm: "causalCount" } },
    });
  });

  it("names options that are out of range", () => {
    const bad: [object, string][] = [
      [{ thetaK: 1.1 }, "thetaK"],
      [{ thetaV: Number.NaN }, "thetaV"],
      [{ theta: "best" }, "theta"],
      [{ refine: -1 }, "refine"],
      [{ refine: 101 }, "refine"],
      [{ codewords: 1.5 }, "codewords"],
      [{ insertInterval: 4097 }, "insertInterval"],
      [{ beta: 1 }, "beta"],
      [{ window: 0 }, "window"],
      [{ visibility: "none" }, "visibility"],
      [{ bytes: 4 }, "target"],
    ];
    for (const [options, param] of bad) {
      expect(() => spindleKV({ keep: 0.5, ...options } as never)).toThrowError(
        expect.objectContaining({ code: "ERR_SPINDLEKV_ARGUMENT", param }),
      );
    }
  });
});

describe("spindleKV refuses to guess a target", () => {
  it.each([
    ["spindleKV", spindleKV],
    ["spindleKV.paper", spindleKV.paper],
  ] as const)("%s without options", (op, method) => {
    for (const options of [undefined, null, 0.2]) {
      expect(() => method(options as never)).toThrowError(
        expect.objectContaining({ code: "ERR_SPINDLEKV_ARGUMENT", op, param: "options" }),
      );
    }
    expect(() => method({})).toThrowError(expect.objectContaining({ op, param: "target" }));
  });
});
