// full(): nothing goes, nothing changes.
import { expect, it } from "vitest";
import { full, KVCache } from "../../lib/index.ts";
import { ask, feed, filledCache, makePrompt, contentsOf } from "../cache/fixtures.ts";
import { compareAttention, denseValues } from "../cache/reference.ts";
import { describeOp } from "../harness/backends.ts";

const shape = { layers: 2, queryHeads: 4, kvHeads: 2, headDim: 16, dtype: "f16" } as const;

describeOp("full", (backend, device) => {
  const tokens = backend === "simt" ? 6 : 90;

  it("is the default, and plain data", () => {
    using cache = new KVCache(device, shape);
    expect(cache.method).toEqual(full());
    expect(full()).toMatchObject({ id: "full", target: null, score: null, codec: { id: "raw" } });
    expect(Object.isFrozen(full())).toBe(true);
  });

  it("compress() changes nothing and says so", async () => {
    const prompt = makePrompt(shape, tokens);
    using cache = await filledCache(device, prompt, { method: full() });
    const before = await contentsOf(cache);
    const progress: number[] = [];
    const report = await cache.compress({ onProgress: (done) => progress.push(done) });
    expect(report).toMatchObject({
      method: "full",
      tokens,
      hasEvicted: false,
      slots: report.slotsBefore,
      bytes: report.bytesBefore,
      targetBytes: null,
      thetas: null,
      plan: null,
    });
    expect(progress).toEqual([1]);
    expect(await contentsOf(cache)).toBe(before);
  });

  it("decodes like the dense reference and counts what it stores", async () => {
    const prompt = makePrompt(shape, tokens + 3);
    const rope = { theta: 10_000, style: "norm" } as const;
    using cache = new KVCache(device, { ...shape, rope, method: full() });
    await feed(cache, prompt, { to: tokens });
    await cache.compress();
    for (let token = tokens; token < prompt.tokens; token++) {
      await feed(cache, prompt, { from: token, to: token + 1 });
      const outputs = await ask(cache, prompt, token, token + 1);
      outputs.forEach((out, layer) => {
        const options = { layer, from: token, to: token + 1, rope, isRotated: true };
        compareAttention(`layer ${layer}`, out, denseValues(prompt, options), "f16");
      });
    }
    const { bytes, pool, nativeBytes, perLayer } = cache.stats();
    expect(bytes.total).toBe(pool.bytesUsed);
    expect(bytes.raw).toBe(nativeBytes);
    expect(bytes.positions).toBe(4 * prompt.tokens * shape.kvHeads * shape.layers);
    const { total, ...parts } = bytes;
    expect(Object.values(parts).reduce((a, b) => a + b, 0)).toBe(total);
    expect(perLayer.map((layer) => layer.bytes).reduce((a, b) => a + b, 0)).toBe(total);
  });
});
