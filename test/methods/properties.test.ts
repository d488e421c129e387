// What holds for every method that ranks: more budget keeps a superset, a group of one is multi-head attention, a prompt
// in parts is the prompt at once.
import { expect, it } from "vitest";
import {
  adaKV,
  baklava,
  cake,
  dynamicKV,
  h2o,
  KVCache,
  lava,
  type Method,
  type ObservationWindowOptions,
  prefixKV,
  snapKV,
  squeezeAttention,
  tova,
  zigzagKV,
} from "../../lib/index.ts";
import { ask, feed, type Prompt, type Shape } from "../cache/fixtures.ts";
import { describeOp } from "../harness/backends.ts";
import { storedLayer } from "./kept.ts";
import { fillByLayer, unevenPrompt } from "./planned.ts";

const window = 8;
const profile = {
  model: "made up",
  importance: [
    [0.9, 0.2],
    [0.4, 0.5],
    [0.1, 0.3],
    [0.7, 0.6],
  ],
  tau: 1,
  least: 0.2,
};

type Make = (tokens: number, options?: ObservationWindowOptions) => Method;

/** By the attention of the window. */
const windowed: Record<string, Make> = {
  snapKV: (tokens, options) => snapKV({ tokens, window, ...options }),
  zigzagKV: (tokens, options) => zigzagKV({ tokens, window, ...options }),
  adaKV: (tokens, options) => adaKV({ tokens, window, ...options }),
  baklava: (tokens, options) => baklava({ tokens, window, profile, ...options }),
  cake: (tokens, options) => cake({ tokens, window, ...options }),
  lava: (tokens, options) => lava({ tokens, window, ...options }),
  dynamicKV: (tokens, options) => dynamicKV({ tokens, window, ...options }),
};

const all: Record<string, Make> = {
  ...windowed,
  h2o: (tokens) => h2o({ tokens }),
  tova: (tokens) => tova({ tokens }),
  prefixKV: (tokens) => prefixKV({ tokens }),
  "squeezeAttention streaming-llm": (tokens) => squeezeAttention({ tokens }),
  "squeezeAttention h2o": (tokens) => squeezeAttention({ tokens, policy: "h2o" }),
};

function observe(cache: KVCache, layer: number): void {
  const cosine = [0.4, 0.9, 0.6, 0.95][layer % 4];
  const after = Float32Array.of(cosine, Math.sqrt(1 - cosine * cosine));
  cache.layers[layer].observe(Float32Array.of(1, 0), after, 1);
}

/** Positions of every head, [layer][head][slots]. */
async function keptOf(cache: KVCache): Promise<number[][][]> {
  const layers = await Promise.all(cache.layers.map(({ index }) => storedLayer(cache, index)));
  return layers.map((heads) => heads.map(({ positions }) => Array.from(positions)));
}

describeOp("every ranking method", (backend, device) => {
  const isSlow = backend === "simt";
  const layers = isSlow ? 2 : 4;
  const tokens = isSlow ? 20 : 90;
  const shape: Shape = { layers, queryHeads: 4, kvHeads: 2, headDim: 16, dtype: "f16" };
  const prompt = unevenPrompt(shape, tokens, 15);
  const table = { ...profile, importance: profile.importance.slice(0, layers) };

  const keptBy = async (method: Method, own: Prompt = prompt) => {
    const attended = own.tokens;
    using cache = await fillByLayer(device, own, { attended, method }, async (filled, layer) =>
      observe(filled, layer),
    );
    const report = await cache.compress();
    expect(report.hasEvicted).toBe(true);
    return await keptOf(cache);
  };
  const make = (name: string, each: number, options: ObservationWindowOptions = {}) =>
    name === "baklava"
      ? baklava({ tokens: each, window, profile: table, ...options })
      : all[name](each, options);

  it("keeps a superset with more budget", async () => {
    for (const name of Object.keys(all)) {
      let smaller: number[][][] | undefined;
      for (const each of isSlow ? [11, 15] : [14, 20, 30, 45, 70]) {
        const kept = await keptBy(make(name, each));
        smaller?.forEach((heads, layer) => {
          heads.forEach((slots, head) => {
            const now = new Set(kept[layer][head]);
            const lost = slots.filter((slot) => !now.has(slot));
            expect(lost, `${name} ${each}, layer ${layer}, head ${head}`).toEqual([]);
          });
        });
        smaller = kept;
      }
    }
  });

  it("with one query head a KV head knows no group", async () => {
    const single = unevenPrompt({ ...shape, queryHeads: 2 }, tokens, 16);
    const each = isSlow ? 12 : 24;
    for (const name of Object.keys(windowed)) {
      const expected = await keptBy(make(name, each, { group: "mean" }), single);
      for (const group of ["max", "sum"] as const) {
        expect(await keptBy(make(name, each, { group }), single), `${name} ${group}`).toEqual(
          expected,
        );
      }
      if (["cake", "lava", "dynamicKV"].includes(name)) continue;
      const unfolded = await keptBy(make(name, each, { group: "unfold" }), single);
      expect(unfolded, `${name} unfold`).toEqual(expected);
    }
  });

  it("keeps for equal query heads of a group what it keeps for one of them", async () => {
    const single = unevenPrompt({ ...shape, queryHeads: 2 }, tokens, 17);
    const perHead = tokens * shape.headDim;
    const doubled: Prompt = {
      ...single,
      shape,
      layers: single.layers.map((rows) => {
        const q = new Float32Array(2 * rows.q.length);
        for (const head of [0, 1]) {
          const own = rows.q.subarray(head * perHead, (head + 1) * perHead);
          q.set(own, 2 * head * perHead);
          q.set(own, (2 * head + 1) * perHead);
        }
        return { ...rows, q };
      }),
    };
    const each = isSlow ? 12 : 24;
    for (const name of Object.keys(all)) {
      const method = make(name, each);
      expect(await keptBy(method, doubled), name).toEqual(await keptBy(method, single));
    }
  });

  it("keeps of a prompt in parts what it keeps of the prompt at once", async () => {
    const each = isSlow ? 12 : 24;
    const part = isSlow ? 7 : 13;
    for (const name of Object.keys(all)) {
      const method = make(name, each);
      const rope = { theta: 10_000, style: "neox" } as const;
      using cache = new KVCache(device, { ...shape, rope, preRopeKeys: true, method });
      for (let from = 0; from < tokens; from += part) {
        const to = Math.min(tokens, from + part);
        await feed(cache, prompt, { from, to });
        await ask(cache, prompt, from, to);
      }
      for (const { index } of cache.layers) observe(cache, index);
      await cache.compress();
      expect(await keptOf(cache), name).toEqual(await keptBy(method));
    }
  });
});

describeOp("a second turn", (backend, device) => {
  const isSlow = backend === "simt";
  const layers = isSlow ? 2 : 4;
  const tokens = isSlow ? 20 : 90;
  const more = isSlow ? 10 : 40;
  const shape: Shape = { layers, queryHeads: 4, kvHeads: 2, headDim: 16, dtype: "f16" };
  const prompt = unevenPrompt(shape, tokens + more, 18);
  const each = isSlow ? 12 : 24;
  const methods: Record<string, Method> = {
    adaKV: adaKV({ tokens: each, window }),
    zigzagKV: zigzagKV({ tokens: each, window }),
    cake: cake({ tokens: each, window }),
    "cake without decoding": cake({ tokens: each, window, decode: false }),
    lava: lava({ tokens: each, window }),
    dynamicKV: dynamicKV({ tokens: each, window }),
    prefixKV: prefixKV({ tokens: each }),
    h2o: h2o({ tokens: each }),
    tova: tova({ tokens: each }),
    "squeezeAttention h2o": squeezeAttention({ tokens: each, policy: "h2o" }),
  };

  for (const [name, method] of Object.entries(methods)) {
    it(`comes back to the budget: ${name}`, async () => {
      const rope = { theta: 10_000, style: "neox" } as const;
      using cache = new KVCache(device, { ...shape, rope, method });
      for (const [from, to] of [
        [0, tokens],
        [tokens, tokens + more],
      ]) {
        await feed(cache, prompt, { from, to });
        await ask(cache, prompt, from, to);
        for (const { index } of cache.layers) observe(cache, index);
        const report = await cache.compress();
        expect(report.slots).toBe(layers * 2 * each);
      }
      // What was dropped in the first turn does not come back, and the newest slot is kept in every head.
      for (const head of (await keptOf(cache)).flat()) {
        expect(new Set(head).size).toBe(head.length);
        if (name !== "tova") expect(head.at(-1)).toBe(tokens + more - 1);
      }
    });

    if (method.schedule !== "per-layer") continue;
    it(`goes layer by layer again: ${name}`, async () => {
      const rope = { theta: 10_000, style: "neox" } as const;
      using cache = new KVCache(device, { ...shape, rope, method });
      for (const [from, to] of [
        [0, tokens],
        [tokens, tokens + more],
      ]) {
        await feed(cache, prompt, { from, to });
        await ask(cache, prompt, from, to);
        for (const layer of cache.layers) await layer.compress();
        const slots = cache.layers.flatMap((layer) => layer.slots).reduce((a, b) => a + b, 0);
        expect(slots).toBe(layers * 2 * each);
      }
    });
  }
});
