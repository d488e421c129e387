// A larger budget keeps what a smaller one keeps: methods whose layers are all given the same, over rising targets. One
// prompt, forked for each method and target.
import { expect, it } from "vitest";
import {
  compose,
  expectedAttention,
  globalLocal,
  h2o,
  KVCache,
  keyDiff,
  l2norm,
  lagKV,
  type Method,
  random,
  snapKV,
  streamingLLM,
  topK,
  tova,
  uniform,
} from "../../lib/index.ts";
import { ask, feed, makePrompt } from "../cache/fixtures.ts";
import { describeOp } from "../harness/backends.ts";
import { storedLayer } from "../methods/kept.ts";

const composed = (score: ReturnType<typeof random>) => (tokens: number) =>
  compose({
    id: "composed",
    target: { tokens },
    score,
    budget: uniform(),
    select: topK({ recent: 2 }),
  });

const methods: Record<string, (tokens: number) => Method> = {
  snapKV: (tokens) => snapKV({ tokens, window: 4 }),
  streamingLLM: (tokens) => streamingLLM({ tokens }),
  h2o: (tokens) => h2o({ tokens }),
  tova: (tokens) => tova({ tokens }),
  l2norm: (tokens) => l2norm({ tokens }),
  keyDiff: (tokens) => keyDiff({ tokens }),
  lagKV: (tokens) => lagKV({ tokens, lag: 6 }),
  expectedAttention: (tokens) => expectedAttention({ tokens, futurePositions: 8 }),
  globalLocal: composed(globalLocal({ window: 4 })),
  random: composed(random()),
};

describeOp("a larger budget keeps a superset", (backend, device) => {
  const tokens = backend === "simt" ? 20 : 60;
  const shape = { layers: 2, queryHeads: 4, kvHeads: 2, headDim: 16, dtype: "f16" } as const;
  const prompt = makePrompt(shape, tokens, { seed: 77, clusters: [9, 4], noise: 0.3 });

  it.each(Object.entries(methods))("%s", async (_, make) => {
    using whole = new KVCache(device, {
      ...shape,
      rope: { theta: 10_000, style: "neox" },
      preRopeKeys: true,
      recordQueries: tokens,
      accumulateScores: "kv-head",
    });
    await feed(whole, prompt);
    await ask(whole, prompt, 0, tokens);
    let smaller: Set<string> = new Set();
    for (const target of [6, 7, 11, Math.floor(tokens * 0.7), tokens, tokens + 5]) {
      using cache = whole.fork({ method: make(target), preRopeKeys: true });
      await cache.compress();
      const kept = new Set<string>();
      for (const { index } of cache.layers) {
        for (const [head, { positions }] of (await storedLayer(cache, index)).entries()) {
          for (const position of positions) kept.add(`${index}/${head}/${position}`);
        }
      }
      expect(kept.size).toBe(4 * Math.min(target, tokens));
      expect([...smaller].filter((slot) => !kept.has(slot))).toEqual([]);
      smaller = kept;
    }
  });
});
