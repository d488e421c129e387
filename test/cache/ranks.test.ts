// Ranks that share the KV heads of a model: they keep what one cache of all heads keeps, and exchange a few hundred
// numbers a layer for it.
import { expect, it } from "vitest";
import {
  accumulatedAttention,
  adaKV,
  baklava,
  cake,
  compose,
  dBudgetKV,
  dynamicKV,
  h2o,
  type KVCache,
  lava,
  type Method,
  prefixKV,
  pyramidKV,
  snapKV,
  spindleKV,
  squeezeAttention,
  type TargetOptions,
  topK,
  tova,
  uncertainty,
  zigzagKV,
} from "../../lib/index.ts";
import { allReduceOf } from "../budget/ranks.ts";
import { describeOp } from "../harness/backends.ts";
import { storedLayer } from "../methods/kept.ts";
import { decode, fillByLayer, unevenPrompt } from "../methods/planned.ts";
import type { Prompt } from "./fixtures.ts";

/** The KV heads [rank, rank + 1) * heads / size of a prompt, with their query heads. */
function partOf(prompt: Prompt, rank: number, size: number): Prompt {
  const { shape, layers } = prompt;
  const part = (rows: Float32Array) => {
    const each = rows.length / size;
    return rows.slice(rank * each, (rank + 1) * each);
  };
  return {
    ...prompt,
    shape: {
      ...shape,
      kvHeads: shape.kvHeads / size,
      queryHeads: shape.queryHeads / size,
    },
    layers: layers.map(({ k, v, q }) => ({ k: part(k), v: part(v), q: part(q) })),
  };
}

function observe(cache: KVCache, layer: number): void {
  const cosine = [0.4, 0.9, 0.6, 0.95][layer % 4];
  const after = Float32Array.of(cosine, Math.sqrt(1 - cosine * cosine));
  cache.layers[layer].observe(Float32Array.of(1, 0), after, 1);
}

async function keptOf(cache: KVCache): Promise<number[][][]> {
  const layers = await Promise.all(cache.layers.map(({ index }) => storedLayer(cache, index)));
  return layers.map((heads) => heads.map(({ positions }) => Array.from(positions)));
}

describeOp("ranks", (backend, device) => {
  const isSlow = backend === "simt";
  const layers = isSlow ? 2 : 4;
  const tokens = isSlow ? 18 : 120;
  const window = isSlow ? 3 : 8;
  const shape = { layers, queryHeads: 8, kvHeads: 4, headDim: 16, dtype: "f16" } as const;
  const steps = isSlow ? 2 : 10;
  const prompt = unevenPrompt(shape, tokens, 23);
  const longer = unevenPrompt(shape, tokens + steps, 24);
  const importance = Array.from({ length: layers }, (_, l) => [1, 3, 2 + l, 0.5]);
  const profile = { model: "made up", importance, tau: 1, least: 0.1 };

  const methods: Record<string, (target: TargetOptions) => Method> = {
    snapKV: (target) => snapKV({ ...target, window }),
    pyramidKV: (target) => pyramidKV({ ...target, window }),
    zigzagKV: (target) => zigzagKV({ ...target, window }),
    adaKV: (target) => adaKV({ ...target, window }),
    "adaKV unfold": (target) => adaKV({ ...target, window, group: "unfold" }),
    baklava: (target) => baklava({ ...target, window, profile }),
    cake: (target) => cake({ ...target, window }),
    lava: (target) => lava({ ...target, window }),
    dynamicKV: (target) => dynamicKV({ ...target, window, most: 2 }),
    prefixKV: (target) => prefixKV({ ...target, scope: "kv-head" }),
    h2o: (target) => h2o(target),
    squeezeAttention: (target) => squeezeAttention(target),
    spindleKV: (target) => spindleKV({ ...target, window }),
    dBudgetKV: () => dBudgetKV({ loss: 0.3, least: 4, skipLayers: [1] }),
  };
  const each = isSlow ? 10 : 30;
  const targets: TargetOptions[] = isSlow
    ? [{ tokens: each }]
    : [{ tokens: each }, { keep: 0.3 }, { bytes: 40_000 }];

  /** Runs the same on one cache of all heads, and on ranks at once; kept slots of all heads and bytes. */
  async function run(
    method: Method,
    size: number,
    work: (cache: KVCache, rank: number) => Promise<unknown>,
  ) {
    const exchange = allReduceOf(size);
    const perRank = await Promise.all(
      Array.from({ length: size }, async (_, rank) => {
        const ranks = {
          rank,
          size,
          allReduce: (values: Float64Array) => exchange.allReduce(rank, values),
        };
        const own = partOf(prompt, rank, size);
        using cache = await fillByLayer(
          device,
          own,
          { attended: tokens, pageSlots: 16, method, ...(size === 1 ? {} : { ranks }) },
          async (filled, layer) => observe(filled, layer),
        );
        await work(cache, rank);
        return { kept: await keptOf(cache), bytes: cache.stats().bytes.total };
      }),
    );
    return {
      kept: perRank[0].kept.map((_, layer) => perRank.flatMap(({ kept }) => kept[layer])),
      bytes: perRank.reduce((sum, { bytes }) => sum + bytes, 0),
      lengths: exchange.lengths,
    };
  }

  for (const [name, make] of Object.entries(methods)) {
    it(`keep what one process keeps: ${name}`, async () => {
      for (const target of targets) {
        const method = make(target);
        const alone = await run(method, 1, (cache) => cache.compress());
        for (const size of isSlow ? [2] : [2, 4]) {
          const together = await run(method, size, (cache) => cache.compress());
          const id = `${size} ranks, ${JSON.stringify(target)}`;
          expect(together.kept, id).toEqual(alone.kept);
          expect(together.bytes, id).toBe(alone.bytes);
          // Sums and histograms, not scores: whatever the length of the prompt.
          expect(Math.max(0, ...together.lengths), id).toBeLessThanOrEqual(260 * layers);
        }
      }
    });
  }

  it("keep what one process keeps while decoding, step by step", async () => {
    for (const name of ["h2o", "cake", "squeezeAttention", "dynamicKV"]) {
      const method = methods[name]({ tokens: each });
      const work = (size: number) => async (cache: KVCache, rank: number) => {
        await cache.compress();
        await decode(cache, partOf(longer, rank, size), tokens, tokens + steps);
      };
      const alone = await run(method, 1, work(1));
      const together = await run(method, 2, work(2));
      expect(together.kept, name).toEqual(alone.kept);
    }
  });

  it("keep in a cascade what one process keeps", async () => {
    for (const name of ["cake", "lava", "dynamicKV"]) {
      for (const target of targets) {
        const method = methods[name](target);
        const work = async (cache: KVCache) => {
          for (const layer of cache.layers) await layer.compress();
        };
        const alone = await run(method, 1, work);
        const together = await run(method, 2, work);
        expect(together.kept, name).toEqual(alone.kept);
        expect(together.bytes, name).toBe(alone.bytes);
      }
    }
  });

  it("agree on when a cap in bytes is passed", async () => {
    const method = compose({
      id: "capped",
      target: { bytes: isSlow ? 8_000 : 30_000 },
      score: accumulatedAttention(),
      budget: uncertainty(),
      select: topK({ recent: 2 }),
      schedule: { overflow: 2 },
    });
    const alone = await run(method, 1, (cache) => cache.maintain());
    const together = await run(method, 2, (cache) => cache.maintain());
    expect(together.kept).toEqual(alone.kept);
    expect(alone.bytes).toBeLessThanOrEqual(isSlow ? 8_000 : 30_000);
  });

  it("refuse methods that rank all heads of a layer together", async () => {
    const ranks = { rank: 0, size: 2, allReduce: async (values: Float64Array) => values };
    const refused = {
      code: "ERR_SPINDLEKV_ARGUMENT",
      op: "KVCache",
      param: "method",
      message: expect.stringContaining('scope "kv-head"'),
    };
    for (const method of [tova({ keep: 0.5 }), prefixKV({ keep: 0.5 })]) {
      const made = fillByLayer(device, prompt, { attended: 1, method, ranks });
      await expect(made).rejects.toMatchObject(refused);
      // One rank alone holds all heads.
      const one = { ...ranks, size: 1 };
      using cache = await fillByLayer(device, prompt, { attended: tokens, method, ranks: one });
      expect((await cache.compress()).hasEvicted).toBe(true);
    }
    using full = await fillByLayer(device, prompt, { attended: 1, ranks });
    expect(() => full.fork({ method: tova({ keep: 0.5 }) })).toThrowError(
      expect.objectContaining(refused),
    );
  });
});
