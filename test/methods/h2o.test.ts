// h2o(): heavy hitters and the last slots, after the prompt and after every decoded token.
import { expect, it } from "vitest";
import { h2o, KVCache, l2norm } from "../../lib/index.ts";
import { ask, feed, makePrompt } from "../cache/fixtures.ts";
import { describeOp } from "../harness/backends.ts";
import { expectStepwise, keepBest, type Rule } from "./stepwise.ts";
import { storedLayer } from "./kept.ts";

const rope = { theta: 10_000, style: "neox" } as const;

/** Of `tokens` slots the sinks, the last of `share`, and the best of the others. */
function heavyHitters(tokens: number, share: number, sinks = 0): Rule {
  const recent = Math.floor(share * (tokens - sinks));
  return keepBest({ tokens, sinks, recent }, ({ sums }, head) => sums[head]);
}

describeOp("h2o", (backend, device) => {
  const isSlow = backend === "simt";
  const kvHeads = isSlow ? 1 : 2;
  const shape = { layers: 2, queryHeads: 3 * kvHeads, kvHeads, headDim: 16, dtype: "f32" } as const;
  const first = isSlow ? 30 : 40;
  const steps = isSlow ? 4 : 50;
  const prompt = makePrompt(shape, first + steps, { seed: 41 });

  it.each([
    { tokens: isSlow ? 8 : 20, recentShare: 0.5, sinks: 0 },
    { tokens: isSlow ? 9 : 21, recentShare: 0.25, sinks: 2 },
    { tokens: isSlow ? 7 : 15, recentShare: 0, sinks: 0 },
  ])("evicts step by step as the formula does: $tokens, $recentShare", async (options) => {
    const rule = heavyHitters(options.tokens, options.recentShare, options.sinks);
    await expectStepwise(device, h2o(options), {
      prompt,
      first,
      tokens: options.tokens,
      rope,
      rule,
    });
  });

  it.each([
    { tokens: isSlow ? 17 : 34, recentShare: 0.5, sinks: 0 },
    { tokens: isSlow ? 16 : 33, recentShare: 0.25, sinks: 2 },
  ])(
    "leaves the slots of many small pages where they are: $tokens, $recentShare",
    async (options) => {
      const rule = heavyHitters(options.tokens, options.recentShare, options.sinks);
      await expectStepwise(device, h2o(options), {
        prompt,
        first,
        tokens: options.tokens,
        pageSlots: isSlow ? 1 : 2,
        rope,
        rule,
      });
    },
  );

  it.each([
    { schedule: { every: 5 }, slack: 4 },
    { schedule: { overflow: 6 }, slack: 6 },
  ])("waits for $schedule", async ({ schedule, slack }) => {
    const tokens = isSlow ? 8 : 20;
    const method = h2o({ tokens, schedule });
    const rule = heavyHitters(tokens, 0.5);
    await expectStepwise(device, method, { prompt, first, tokens, slack, rope, rule });
  });

  it("a prompt in chunks is the same prompt; with maintain() between them it is not", async () => {
    const keptAfter = async (chunk: number, isMaintained: boolean) => {
      using cache = new KVCache(device, { ...shape, rope, method: h2o({ tokens: 8 }) });
      for (let from = 0; from < first; from += chunk) {
        const to = Math.min(first, from + chunk);
        await feed(cache, prompt, { from, to });
        await ask(cache, prompt, from, to);
        if (isMaintained || to === first) await cache.maintain();
      }
      const layers = await Promise.all([0, 1].map((layer) => storedLayer(cache, layer)));
      return layers.flat().map(({ positions }) => Array.from(positions));
    };
    const once = await keptAfter(first, false);
    expect(await keptAfter(5, false)).toEqual(once);
    // What an early chunk evicts, a later one cannot attend to: another answer, of the same size.
    const between = await keptAfter(5, true);
    expect(between).not.toEqual(once);
    expect(between.map((row) => row.length)).toEqual(once.map((row) => row.length));
  });

  it("a shorter prompt stays whole until it has grown", async () => {
    using cache = new KVCache(device, { ...shape, rope, method: h2o({ tokens: 12 }) });
    for (let token = 0; token < 14; token++) {
      await feed(cache, prompt, { from: token, to: token + 1 });
      await ask(cache, prompt, token, token + 1);
      const report = await cache.maintain();
      expect(report === null).toBe(token < 12);
      for (const layer of cache.layers) {
        expect(Math.max(...layer.slots)).toBe(Math.min(token + 1, 12));
      }
    }
  });

  it("a target in bytes that a short prompt does not reach stays open", async () => {
    const bytes = 2 * kvHeads * 16 * (2 * 16 * 4 + 4);
    const method = h2o({ bytes });
    using cache = new KVCache(device, { ...shape, rope, method, pageSlots: 4 });
    const held: number[] = [];
    for (let from = 0; from < first; from += 4) {
      const to = Math.min(first, from + 4);
      await feed(cache, prompt, { from, to });
      await ask(cache, prompt, from, to);
      await cache.maintain();
      expect(cache.stats().bytes.total).toBeLessThanOrEqual(bytes);
      held.push(Math.max(...cache.layers.flatMap(({ slots }) => slots)));
    }
    expect(held[0]).toBe(4);
    expect(held[1]).toBe(8);
    if (!isSlow) expect(held.at(-1)).toBe(held.at(-2));
  });

  it("slots that no query saw have sum 0, however many are appended at once", async () => {
    const more = 300; // beyond the sums that attend has made room for so far
    const long = makePrompt(shape, 8 + more, { seed: 42 });
    using cache = new KVCache(device, { ...shape, rope, method: h2o({ tokens: 8 }) });
    await feed(cache, long, { to: 8 });
    await ask(cache, long, 0, 8);
    await feed(cache, long, { from: 8, to: 8 + more });
    await cache.compress();
    const layers = await Promise.all([0, 1].map((layer) => storedLayer(cache, layer)));
    const newest = Array.from({ length: 4 }, (_, i) => 4 + more + i);
    for (const { positions } of layers.flat()) {
      expect(Array.from(positions).slice(4)).toEqual(newest);
      expect(Math.max(...positions.slice(0, 4))).toBeLessThan(8);
    }
    // The sums moved with their slots: the best of the first four are still the best.
    await feed(cache, long, { from: 0, to: 2 });
    await cache.maintain();
    for (const layer of [0, 1]) {
      for (const [head, { positions }] of (await storedLayer(cache, layer)).entries()) {
        const before = layers[layer]?.[head]?.positions ?? [];
        expect(Array.from(positions).slice(0, 4)).toEqual(Array.from(before).slice(0, 4));
      }
    }
  });

  it("a cache that no query asked yet has sums of 0", async () => {
    using cache = new KVCache(device, { ...shape, rope, method: h2o({ tokens: 8 }) });
    await feed(cache, prompt, { to: first });
    await cache.compress();
    const layers = await Promise.all([0, 1].map((layer) => storedLayer(cache, layer)));
    const kept = [0, 1, 2, 3, first - 4, first - 3, first - 2, first - 1];
    for (const { positions } of layers.flat()) expect(Array.from(positions)).toEqual(kept);
  });

  it.each([200, 0])(
    "sums follow the slots that another method keeps: %i of 500 were seen",
    async (seen) => {
      const long = makePrompt(shape, 500, { seed: 43 }); // more than the sums that attend makes room for at first
      const options = { ...shape, rope, preRopeKeys: true, accumulateScores: "kv-head" } as const;
      const method = l2norm({ tokens: 60, skipLayers: [] });
      using cache = new KVCache(device, { ...options, method });
      await feed(cache, long, { to: 200 });
      if (seen > 0) await ask(cache, long, 0, seen);
      await feed(cache, long, { from: 200 });
      await cache.compress();
      using fork = cache.fork({ method: h2o({ tokens: 8, recentShare: 0 }) });
      await fork.compress();
      for (const layer of [0, 1]) {
        const before = await storedLayer(cache, layer);
        for (const [head, { positions }] of (await storedLayer(fork, layer)).entries()) {
          const all = Array.from(before[head]?.positions ?? []);
          expect(all.filter((position) => position < 200).length).toBeGreaterThan(8);
          if (seen > 0) expect(Math.max(...positions)).toBeLessThan(seen);
          else expect(Array.from(positions)).toEqual(all.slice(0, 8));
        }
      }
    },
  );

  it("names options that are out of range", () => {
    for (const [options, param] of [
      [{ tokens: 8, recentShare: 1.5 }, "recent.share"],
      [{ tokens: 8, sinks: -1 }, "sinks"],
      [{ tokens: 8, schedule: { every: 0 } }, "schedule.every"],
      [{ keep: 0.5, schedule: { overflow: 3 } }, "target"],
      [{}, "target"],
    ] as const) {
      expect(() => h2o(options as never), JSON.stringify(options)).toThrowError(
        expect.objectContaining({ code: "ERR_SPINDLEKV_ARGUMENT", param }),
      );
    }
  });
});
