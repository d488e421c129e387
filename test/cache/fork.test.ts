// fork(): two caches that share pages until one of them writes.
import { expect, it } from "vitest";
import {
  KVCache,
  type KVCacheOptions,
  PagePool,
  slidingWindow,
  snapKV,
  spindleKV,
  streamingLLM,
} from "../../lib/index.ts";
import { describeOp } from "../harness/backends.ts";
import { ask, codeOf, feed, filledCache, makePrompt, contentsOf } from "./fixtures.ts";
import { compareAttention, denseValues } from "./reference.ts";

const rope = { theta: 10_000, style: "neox" } as const;
const shape = { layers: 2, queryHeads: 4, kvHeads: 2, headDim: 16, dtype: "f16" } as const;

describeOp("fork", (backend, device) => {
  const isSlow = backend === "simt";
  const prefix = isSlow ? 6 : 83; // ends inside a page
  const more = isSlow ? 5 : 20;
  const pageSlots = isSlow ? 4 : 32;
  // Two continuations of one prefix.
  const [left, right] = [1, 2].map((seed) => {
    const common = makePrompt(shape, prefix, { seed: 7 });
    const own = makePrompt(shape, prefix + more, { seed });
    own.layers.forEach((layer, l) => {
      for (const part of ["k", "v", "q"] as const) {
        const heads = part === "q" ? shape.queryHeads : shape.kvHeads;
        const size = shape.headDim;
        for (let h = 0; h < heads; h++) {
          const from = common.layers[l][part].subarray(h * prefix * size, (h + 1) * prefix * size);
          layer[part].set(from, h * (prefix + more) * size);
        }
      }
    });
    return own;
  });
  const prefixed = (options: Partial<KVCacheOptions> = {}) => {
    const cache = new KVCache(device, { ...shape, rope, pageSlots, ...options });
    return feed(cache, left, { to: prefix, attended: 16 }).then(() => cache);
  };

  it("neither side sees what the other appends", async () => {
    using cache = await prefixed({ preRopeKeys: true });
    using copy = cache.fork();
    const before = await contentsOf(cache);
    expect(await contentsOf(copy)).toBe(before);
    await feed(copy, right, { from: prefix });
    expect(await contentsOf(cache)).toBe(before);
    await feed(cache, left, { from: prefix, chunk: 1 });
    for (const [side, prompt] of [
      [cache, left],
      [copy, right],
    ] as const) {
      const from = prompt.tokens - 2;
      const outputs = await ask(side, prompt, from, prompt.tokens);
      outputs.forEach((out, layer) => {
        const options = { layer, from, to: prompt.tokens, rope };
        compareAttention(`layer ${layer}`, out, denseValues(prompt, options), "f16");
      });
    }
  });

  it("a shared prefix is stored once", async () => {
    using pool = new PagePool(device);
    const cache = await prefixed({ pool });
    const alone = pool.stats().bytesUsed;
    expect(cache.stats().bytes.total).toBe(alone);
    const forks = Array.from({ length: 3 }, () => cache.fork());
    expect(pool.stats().bytesUsed).toBe(alone);
    // Each fork that writes copies the open page of every head, no more.
    for (const fork of forks) expect(fork.stats().bytes.total).toBe(alone);
    using small = new KVCache(device, { ...shape, rope, pageSlots });
    await feed(small, left, { to: 1 });
    const openPages = small.stats().bytes.total;
    await feed(forks[0], right, { from: prefix, to: prefix + 1 });
    expect(pool.stats().bytesUsed - alone).toBe(openPages);
    await feed(forks[0], right, { from: prefix + 1, to: prefix + 2 });
    expect(pool.stats().bytesUsed - alone).toBe(openPages);
    for (const fork of forks) fork.dispose();
    expect(pool.stats().bytesUsed).toBe(alone);
    cache.dispose();
    expect(pool.stats()).toMatchObject({ bytesUsed: 0, pagesUsed: 0, slabs: 0, bytesReserved: 0 });
  });

  it("dispose in either order leaves the other side whole, and nothing in the end", async () => {
    for (const isSourceFirst of [true, false]) {
      const before = device.allocations().bytes;
      const cache = await prefixed();
      const copy = cache.fork();
      const grandchild = copy.fork();
      const contents = await contentsOf(cache);
      const order = isSourceFirst ? [cache, copy, grandchild] : [grandchild, copy, cache];
      while (order.length > 0) {
        order.shift()!.dispose();
        for (const cacheLeft of order) {
          expect(await contentsOf(cacheLeft)).toBe(contents);
          expect(cacheLeft.stats().pool.bytesUsed).toBe(cacheLeft.stats().bytes.total);
          using another = cacheLeft.fork();
          expect(another.tokens).toBe(prefix);
        }
      }
      // Workspaces of the device's own threads may have grown; pages and tables are gone.
      expect(device.allocations().bytes - before).toBeLessThan(1 << 20);
    }
  });

  it("a fork with another method compresses by that one alone", async () => {
    using cache = await prefixed({ preRopeKeys: true, recordQueries: 16 });
    const before = await contentsOf(cache);
    const kept = isSlow ? 4 : 24;
    const methods = [
      snapKV({ tokens: kept, window: 2 }),
      slidingWindow({ tokens: kept }),
      streamingLLM({ tokens: kept, sinks: 2 }),
      spindleKV({ tokens: kept, window: 2 }),
    ];
    for (const method of methods) {
      using fork = cache.fork({ method });
      expect(fork.stats().method).toBe(method.id);
      const report = await fork.compress();
      expect(report).toMatchObject({ method: method.id, hasEvicted: true });
      if (method.id !== "spindlekv") {
        expect(fork.layers.map((layer) => layer.slots)).toEqual([
          [kept, kept],
          [kept, kept],
        ]);
      }
      await feed(fork, right, { from: prefix });
    }
    expect(await contentsOf(cache)).toBe(before);
  });

  it("refuses a method that needs keys before RoPE where they are stored after it", async () => {
    using cache = await prefixed();
    expect(() => cache.fork({ method: spindleKV({ keep: 0.5 }) })).toThrowError(
      expect.objectContaining({ code: "ERR_SPINDLEKV_MISSING_INPUT", op: "fork" }),
    );
    expect(() => cache.fork({ method: streamingLLM({ keep: 0.5 }) })).toThrowError(
      expect.objectContaining({ code: "ERR_SPINDLEKV_MISSING_INPUT", op: "fork" }),
    );
  });

  it("a fork whose options are refused leaves nothing behind", async () => {
    using pool = new PagePool(device);
    const cache = await prefixed({ pool, preRopeKeys: true });
    expect(() => cache.fork({ method: streamingLLM({ tokens: 3, sinks: 4 }) })).toThrowError(
      expect.objectContaining({ code: "ERR_SPINDLEKV_ARGUMENT" }),
    );
    cache.dispose();
    expect(pool.stats().bytesUsed).toBe(0);
  });

  it("goes on under the same policies after compression", async () => {
    using cache = await prefixed({
      method: spindleKV({ tokens: prefix, window: 2, insertInterval: 2, thetaK: 0.5, thetaV: 0.5 }),
    });
    await cache.compress();
    const encoded = () => copy.stats().perLayer[0].heads[0].encodedSlots;
    using copy = cache.fork();
    const before = encoded();
    await feed(copy, right, { from: prefix, to: prefix + more, chunk: 1 });
    expect(encoded()).toBeGreaterThan(before);
    using window = await prefixed({ method: slidingWindow({ keep: 0.5 }) });
    await window.compress();
    const [slots] = window.layers[0].slots;
    using other = window.fork();
    await feed(other, right, { from: prefix, chunk: 1 });
    expect(other.layers[0].slots[0]).toBe(slots);
  });

  it("forks that compress at once do not fail with each other", async () => {
    using cache = await prefixed({
      method: spindleKV({ ...(isSlow ? { bytes: 1 << 20 } : { keep: 0.5 }), window: 2 }),
    });
    const aborted = cache.fork();
    using lives = cache.fork();
    const controller = new AbortController();
    // Both read the same similarities; the one that makes them is stopped, or gone.
    const first = aborted.compress({ signal: controller.signal });
    const second = lives.compress();
    controller.abort();
    expect(await codeOf(first)).toBe("ERR_SPINDLEKV_ABORTED");
    expect(await codeOf(second)).toBe("resolved");
    aborted.dispose();
    const gone = cache.fork();
    using stays = cache.fork();
    const goneJob = gone.compress();
    const staysJob = stays.compress();
    gone.dispose();
    expect(await codeOf(goneJob)).toBe("ERR_SPINDLEKV_DISPOSED");
    expect(await codeOf(staysJob)).toBe("resolved");
    expect(await contentsOf(stays)).toBe(await contentsOf(lives));
  });
});

describeOp("filledCache", (_backend, device) => {
  it("shares nothing between caches of their own pools", async () => {
    const prompt = makePrompt(shape, 4);
    using a = await filledCache(device, prompt);
    using b = await filledCache(device, prompt);
    const total = a.stats().bytes.total;
    expect(a.stats().pool.bytesUsed).toBe(total);
    expect(b.stats().pool.bytesUsed).toBe(total);
  });
});
