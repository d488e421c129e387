// slidingWindow(): the last slots, at their original positions, at every step.
import { expect, it } from "vitest";
import { KVCache, slidingWindow } from "../../lib/index.ts";
import { feed, filledCache, makePrompt } from "../cache/fixtures.ts";
import { describeOp } from "../harness/backends.ts";
import { sinksAndRecentKept } from "../oracle/methods.ts";
import { expectAttention, expectKept } from "./kept.ts";

const shape = { layers: 2, queryHeads: 6, kvHeads: 2, headDim: 16, dtype: "f16" } as const;
const rope = { theta: 10_000, style: "neox" } as const;

describeOp("slidingWindow", (backend, device) => {
  const isSlow = backend === "simt";
  const tokens = isSlow ? 9 : 120;
  const window = isSlow ? 4 : 37;
  const pageSlots = isSlow ? 2 : 16;
  const lastSlots = (n: number, count: number) =>
    [0, 1].map(() => ({ indices: sinksAndRecentKept(n, 0, count), masks: [] }));

  it("keeps the last `tokens` slots when the prompt is in, and at every later step", async () => {
    const prompt = makePrompt(shape, tokens + 5);
    using cache = new KVCache(device, {
      ...shape,
      rope,
      pageSlots,
      method: slidingWindow({ tokens: window }),
    });
    await feed(cache, prompt, { to: tokens });
    const report = await cache.compress();
    expect(report).toMatchObject({ hasEvicted: true, slots: 4 * window, targetBytes: null });
    for (let token = tokens; token <= prompt.tokens; token++) {
      if (token > tokens) await feed(cache, prompt, { from: token - 1, to: token });
      for (const layer of cache.layers) {
        await expectKept(cache, layer.index, lastSlots(token, window));
      }
    }
    const kept = [0, 1].map(() => lastSlots(prompt.tokens, window));
    await expectAttention(cache, prompt, kept, { rope, isRotated: true });
  });

  it("chunks see themselves whole: room is made before, never inside", async () => {
    const prompt = makePrompt(shape, tokens);
    using cache = new KVCache(device, {
      ...shape,
      rope,
      method: slidingWindow({ tokens: window }),
    });
    const chunk = window - 1;
    await feed(cache, prompt, { to: chunk });
    await feed(cache, prompt, { from: chunk, to: 2 * chunk });
    const to = Math.min(tokens, 2 * chunk);
    await expectKept(cache, 0, lastSlots(to, window));
    await feed(cache, prompt, { from: to, to: tokens });
    await expectKept(cache, 0, lastSlots(tokens, Math.max(window, tokens - to)));
  });

  it("a prompt shorter than the window leaves room for what is decoded", async () => {
    const prompt = makePrompt(shape, window + 3);
    const short = window - 2;
    using cache = new KVCache(device, {
      ...shape,
      rope,
      method: slidingWindow({ tokens: window }),
    });
    await feed(cache, prompt, { to: short });
    expect(await cache.compress()).toMatchObject({ hasEvicted: false });
    await feed(cache, prompt, { from: short, chunk: 1 });
    await expectKept(cache, 0, lastSlots(prompt.tokens, window));
  });

  it("a byte target holds from compress() on", async () => {
    if (isSlow) return;
    const prompt = makePrompt(shape, 400);
    using cache = await filledCache(device, prompt, {
      rope,
      pageSlots: 8,
      method: slidingWindow({ keep: 0.3 }),
    });
    const report = await cache.compress();
    expect(report.bytes).toBeLessThanOrEqual(report.targetBytes ?? 0);
    expect(report.bytes).toBeGreaterThanOrEqual(0.99 * (report.targetBytes ?? 0));
    expect(cache.stats().bytes.total).toBe(cache.stats().pool.bytesUsed);
    const slots = cache.layers.map((layer) => layer.slots);
    // Equal up to the one slot that the byte target may leave to the first layer.
    expect(slots[0][0] - slots[1][0]).toBeLessThanOrEqual(1);
    const more = makePrompt(shape, 30, { seed: 2 });
    await feed(cache, more, { chunk: 1 });
    expect(cache.layers.map((layer) => layer.slots)).toEqual([slots[1], slots[1]]);
  });

  it("needs exactly one target, in range", () => {
    const bad: [object | undefined, string][] = [
      [undefined, "options"],
      [{}, "target"],
      [{ keep: 0.5, tokens: 3 }, "target"],
      [{ keep: 0 }, "keep"],
      [{ keep: 1.01 }, "keep"],
      [{ keep: Number.NaN }, "keep"],
      [{ bytes: 0.5 }, "bytes"],
      [{ tokens: -1 }, "tokens"],
      [{ tokens: "9" }, "tokens"],
    ];
    for (const [options, param] of bad) {
      expect(() => slidingWindow(options as never), JSON.stringify(options)).toThrowError(
        expect.objectContaining({ code: "ERR_SPINDLEKV_ARGUMENT", param }),
      );
    }
  });
});
