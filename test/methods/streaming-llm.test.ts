// streamingLLM(): attention sinks and the last slots; RoPE by slot index, as the paper does.
import { expect, it } from "vitest";
import { KVCache, PagePool, streamingLLM } from "../../lib/index.ts";
import { feed, makePrompt } from "../cache/fixtures.ts";
import { describeOp } from "../harness/backends.ts";
import { sinksAndRecentKept } from "../oracle/methods.ts";
import { expectAttention, expectKept } from "./kept.ts";

const shape = { layers: 2, queryHeads: 4, kvHeads: 2, headDim: 16, dtype: "f16" } as const;

describeOp("streamingLLM", (backend, device) => {
  const isSlow = backend === "simt";
  const tokens = isSlow ? 10 : 130;
  const size = isSlow ? 6 : 40;
  const pageSlots = isSlow ? 2 : 16;
  const kept = (n: number, sinks: number) =>
    [0, 1].map(() => ({ indices: sinksAndRecentKept(n, sinks, size - sinks), masks: [] }));

  for (const style of ["norm", "neox"] as const) {
    for (const positions of ["reindexed", "original"] as const) {
      it(`keeps sinks and recent slots, ${positions} positions, ${style} pairs`, async () => {
        const sinks = isSlow ? 2 : 4;
        const rope = { theta: 10_000, style };
        const prompt = makePrompt(shape, tokens + 4);
        using cache = new KVCache(device, {
          ...shape,
          rope,
          pageSlots,
          method: streamingLLM({ tokens: size, sinks, positions }),
        });
        await feed(cache, prompt, { to: tokens });
        expect(await cache.compress()).toMatchObject({ slots: 4 * size, hasEvicted: true });
        await expectKept(cache, 0, kept(tokens, sinks));
        await feed(cache, prompt, { from: tokens, chunk: 1 });
        await expectKept(cache, 1, kept(prompt.tokens, sinks));
        const isReindexed = positions === "reindexed";
        const all = [0, 1].map(() => kept(prompt.tokens, sinks));
        await expectAttention(cache, prompt, all, {
          rope,
          isRotated: !isReindexed,
          reindex: isReindexed,
        });
      });
    }
  }

  it("holds the window from the first append on, without compress()", async () => {
    const prompt = makePrompt(shape, tokens);
    const method = streamingLLM({ tokens: size, sinks: 1 });
    using cache = new KVCache(device, {
      ...shape,
      rope: { theta: 10_000, style: "norm" },
      pageSlots,
      method,
    });
    await feed(cache, prompt, { chunk: 1 });
    await expectKept(cache, 0, kept(tokens, 1));
  });

  it("a decode of 500 tokens holds memory flat", async () => {
    if (isSlow) return;
    const prompt = makePrompt(shape, 500 + tokens);
    using pool = new PagePool(device, { slabBytes: 64 * 1024 });
    using cache = new KVCache(device, {
      ...shape,
      rope: { theta: 10_000, style: "norm" },
      pageSlots,
      pool,
      method: streamingLLM({ tokens: size }),
    });
    await feed(cache, prompt, { to: tokens });
    await cache.compress();
    // In pages of a head: one of sinks, those of the recent slots, and one more as they begin inside a page.
    using single = new KVCache(device, { ...shape, pageSlots });
    await feed(single, prompt, { to: 1 });
    const ceiling = single.stats().bytes.total * (1 + Math.ceil((size - 4) / pageSlots) + 1);
    const live = device.allocations();
    let largest = 0;
    for (let token = tokens; token < prompt.tokens; token++) {
      await feed(cache, prompt, { from: token, to: token + 1 });
      const { bytesUsed } = pool.stats();
      largest = Math.max(largest, bytesUsed);
      expect(cache.stats().bytes.total).toBe(bytesUsed);
    }
    expect(largest).toBeLessThanOrEqual(ceiling);
    expect(cache.layers[1].slots).toEqual([size, size]);
    // The table of angles grows with the positions; nothing else may.
    expect(device.allocations().count - live.count).toBeLessThanOrEqual(3);
  });

  it("refuses windows that hold nothing but sinks, and sinks that are no number", () => {
    expect(
      () =>
        new KVCache(device, {
          ...shape,
          rope: { theta: 10_000, style: "norm" },
          method: streamingLLM({ tokens: 4 }),
        }),
    ).toThrowError(
      expect.objectContaining({ code: "ERR_SPINDLEKV_ARGUMENT", param: "target.tokens" }),
    );
    for (const sinks of [-1, 1.5, Number.NaN, "4"]) {
      expect(() => streamingLLM({ tokens: 9, sinks: sinks as number })).toThrowError(
        expect.objectContaining({ code: "ERR_SPINDLEKV_ARGUMENT", param: "sinks" }),
      );
    }
    expect(() => streamingLLM({ tokens: 9, positions: "none" as never })).toThrowError(
      expect.objectContaining({ code: "ERR_SPINDLEKV_ARGUMENT", param: "positions" }),
    );
  });

  it("needs keys before RoPE when it re-indexes them", () => {
    expect(
      () => new KVCache(device, { ...shape, method: streamingLLM({ tokens: 9 }) }),
    ).toThrowError(expect.objectContaining({ code: "ERR_SPINDLEKV_MISSING_INPUT" }));
  });
});
