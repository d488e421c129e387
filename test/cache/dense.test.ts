// A cache without eviction is a dense cache: whatever the chunks, pages, dtypes and storage of keys.
import { expect, it } from "vitest";
import { KVCache, Tensor } from "../../lib/index.ts";
import { describeOp, runCases } from "../harness/backends.ts";
import { matrix } from "../harness/cases.ts";
import { compareWithin } from "../harness/compare.ts";
import { logitScaleOf } from "../harness/heads.ts";
import { roundingBound, scoreSumBound } from "../harness/tolerance.ts";
import { attendOracle } from "../oracle/attend.ts";
import type { FloatDType } from "../oracle/float-formats.ts";
import { ask, feed, filledCache, makePrompt, contentsOf } from "./fixtures.ts";
import { compareAttention, denseValues } from "./reference.ts";

interface DenseCase {
  readonly dtype: FloatDType;
  readonly group: number;
  readonly kvHeads: number;
  readonly headDim: number;
  readonly tokens: number;
  readonly chunk: number;
  readonly pageSlots: number;
  readonly style: "none" | "norm" | "neox";
  readonly isPreRope: boolean;
  readonly isPartial: boolean;
}

const cases = matrix<DenseCase>(
  {
    dtype: ["f32", "f16", "bf16"],
    group: [1, 3, 4, 8],
    kvHeads: [1, 2],
    headDim: [8, 32, 64],
    tokens: [1, 5, 64, 70],
    chunk: [1, 7, 64, 1000],
    pageSlots: [1, 16, 64],
    style: ["none", "norm", "neox"],
    isPreRope: [false, true],
    isPartial: [false, true],
  },
  {
    seed: 11,
    allow: ({ style, isPreRope, isPartial }) => style !== "none" || (!isPreRope && !isPartial),
    isLarge: ({ tokens, group, headDim }) => tokens > 5 || group > 4 || headDim > 32,
  },
);

describeOp("a full cache equals the dense float64 reference", (backend, device) => {
  it("over dtypes, groups, chunks, pages and RoPE", async () => {
    await runCases(device, cases.casesFor(backend), async (values, _arena, random) => {
      const { dtype, group, kvHeads, headDim, tokens, chunk, pageSlots, style } = values;
      const shape = { layers: 2, queryHeads: group * kvHeads, kvHeads, headDim, dtype };
      const prompt = makePrompt(shape, tokens, { seed: random.integer(1, 1e6) });
      const nRot = values.isPartial ? headDim / 2 : headDim;
      const rope = style === "none" ? undefined : { theta: 10_000, style, nRot };
      using cache = new KVCache(device, {
        ...shape,
        pageSlots,
        preRopeKeys: values.isPreRope,
        ...(rope === undefined ? {} : { rope }),
      });
      // Chunks attend as they come, like a prefill; the reference sees the whole prompt.
      for (let from = 0; from < tokens; from += chunk) {
        const to = Math.min(tokens, from + chunk);
        await feed(cache, prompt, { from, to });
        const isLast = to === tokens;
        if (!isLast && from % 3 !== 0) continue;
        const outputs = await ask(cache, prompt, from, to);
        const isRotated = rope !== undefined && !values.isPreRope;
        outputs.forEach((out, layer) => {
          const options = { layer, from, to, isRotated, ...(rope === undefined ? {} : { rope }) };
          compareAttention(`layer ${layer}`, out, denseValues(prompt, options), dtype);
        });
      }
      expect(cache.tokens).toBe(tokens);
      const stats = cache.stats();
      expect(stats.perLayer.map((layer) => layer.slots)).toEqual([
        kvHeads * tokens,
        kvHeads * tokens,
      ]);
      expect(stats.bytes.total).toBe(stats.pool.bytesUsed);
      expect(stats.nativeBytes).toBe(2 * tokens * kvHeads * headDim * 4);
    });
  });

  it("one token at a time gives the same bits as chunks", async () => {
    const shape = { layers: 1, queryHeads: 4, kvHeads: 2, headDim: 16, dtype: "f16" } as const;
    const prompt = makePrompt(shape, backend === "simt" ? 9 : 41);
    const rope = { theta: 10_000, style: "neox" } as const;
    using whole = new KVCache(device, { ...shape, rope, pageSlots: 8 });
    using steps = new KVCache(device, { ...shape, rope, pageSlots: 8 });
    await feed(whole, prompt);
    await feed(steps, prompt, { chunk: 1 });
    expect(await contentsOf(steps)).toBe(await contentsOf(whole));
    const last = prompt.tokens;
    expect(await ask(steps, prompt, last - 1, last)).toEqual(
      await ask(whole, prompt, last - 1, last),
    );
  });
});

describeOp("a cache takes rows as the runtime has them", (_backend, device) => {
  const shape = { layers: 1, queryHeads: 2, kvHeads: 1, headDim: 8, dtype: "f16" } as const;

  it("tensors of any float dtype and stride give the bits of plain arrays", async () => {
    const tokens = 5;
    const prompt = makePrompt(shape, tokens);
    const { k, v, q } = prompt.layers[0];
    using plain = new KVCache(device, shape);
    await feed(plain, prompt);
    const [expected] = await ask(plain, prompt, 0, tokens);
    for (const dtype of ["f32", "f16"] as const) {
      using cache = new KVCache(device, shape);
      // Rows lie in a wider buffer, two rows apart.
      const strided = (rows: Float32Array, heads: number) => {
        const wide = Tensor.zeros(device, dtype, [heads, tokens, 2, 8]);
        const view = wide.view({
          shape: [heads, tokens, 8],
          strides: [tokens * 16, 16, 1],
        });
        view.write(rows);
        return view;
      };
      cache.layers[0].append(strided(k, 1), strided(v, 1));
      expect(await contentsOf(cache)).toBe(await contentsOf(plain));
      using out = Tensor.zeros(device, dtype, [2, tokens, 8]);
      await cache.layers[0].attend(strided(q, 2), out);
      const got = (await out.read()) as Float32Array;
      got.forEach((value, i) => {
        expect(Math.abs(value - expected[i])).toBeLessThanOrEqual(
          roundingBound(expected[i], dtype),
        );
      });
    }
  });

  it("adds each slot's probability to the score sums", async () => {
    const tokens = 6;
    const prompt = makePrompt(shape, tokens);
    using cache = await filledCache(device, prompt);
    const q = prompt.layers[0].q;
    const expected = attendOracle(denseValues(prompt, { layer: 0, from: 0, to: tokens }));
    for (const [mode, rows] of [
      ["query-head", expected.queryHeadScores],
      ["kv-head", expected.kvHeadScores],
    ] as const) {
      using sum = Tensor.zeros(device, "f32", [rows.length, tokens]);
      const out = new Float32Array(q.length);
      await cache.layers[0].attend(q, out, tokens, { scores: { sum, mode } });
      const got = (await sum.read()) as Float32Array;
      const scale = logitScaleOf(denseValues(prompt, { layer: 0, from: 0, to: tokens }));
      rows.forEach((row, r) => {
        compareWithin("score sums", got.subarray(r * tokens, (r + 1) * tokens), row, {
          element: (i) => scoreSumBound(row[i], 0, 2 * tokens, scale),
        });
      });
    }
  });

  it("an empty cache answers no queries and holds nothing", async () => {
    using cache = new KVCache(device, shape);
    cache.layers[0].append(new Float32Array(0), new Float32Array(0), 0);
    await cache.layers[0].attend(new Float32Array(0), new Float32Array(0), 0);
    expect(cache.stats()).toMatchObject({ tokens: 0, ratio: 0, bytes: { total: 0 } });
    expect(cache.layers[0].slots).toEqual([0]);
  });
});
