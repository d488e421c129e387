// More than one turn: a cache that was compressed takes another prompt and is compressed again.
import { expect, it } from "vitest";
import {
  KVCache,
  type Method,
  pyramidKV,
  snapKV,
  spindleKV,
  streamingLLM,
} from "../../lib/index.ts";
import { describeOp } from "../harness/backends.ts";
import { storedLayer } from "../methods/kept.ts";
import { ask, feed, makePrompt } from "./fixtures.ts";
import { compareAttention, storedValues } from "./reference.ts";

const rope = { theta: 10_000, style: "neox" } as const;
const shape = { layers: 3, queryHeads: 6, kvHeads: 2, headDim: 16, dtype: "f16" } as const;

describeOp("a second compress()", (backend, device) => {
  const isSlow = backend === "simt";
  const first = isSlow ? 14 : 240;
  const turn = isSlow ? 8 : 160;
  const window = isSlow ? 2 : 8;
  const turns = isSlow ? 1 : 3;
  const prompt = makePrompt(shape, first + turns * turn, { clusters: [5, 40, 0] });
  const keep = isSlow ? 0.9 : 0.25;
  const methods: Record<string, Method> = {
    snapKV: snapKV({ keep, window }),
    "snapKV per head": snapKV({ keep, window, group: "unfold", visibility: "head" }),
    pyramidKV: pyramidKV({ keep, window }),
    streamingLLM: streamingLLM({ keep }),
    spindleKV: spindleKV({ keep, window, theta: "fixed" }),
    "spindleKV raw window": spindleKV({ keep, window, recentRaw: true, insertInterval: 4 }),
    "spindleKV.paper": spindleKV.paper({ keep, window }),
  };

  for (const [name, method] of Object.entries(methods)) {
    if (isSlow && name !== "spindleKV") continue;
    it(`${name}: after every turn within its budget, attending to what it holds`, async () => {
      using cache = new KVCache(device, { ...shape, rope, method, pageSlots: 16 });
      let to = first;
      await feed(cache, prompt, { to, attended: window });
      for (let i = 0; i <= turns; i++) {
        const report = await cache.compress();
        const target = report.targetBytes ?? 0;
        expect(report.bytes).toBeLessThanOrEqual(target);
        if (report.hasEvicted && !isSlow) {
          expect(report.bytes / target, `turn ${i}`).toBeGreaterThanOrEqual(0.98);
        }
        const { bytes, pool } = cache.stats();
        expect(bytes.total).toBe(report.bytes);
        expect(pool.bytesUsed).toBe(report.bytes);
        const outputs = await ask(cache, prompt, to - 1, to);
        for (const [layer, out] of outputs.entries()) {
          const stored = await storedLayer(cache, layer);
          for (const head of stored) {
            expect(head.positions.every((p, s) => s === 0 || p > head.positions[s - 1])).toBe(true);
            expect(head.positions.at(-1)).toBe(to - 1);
          }
          const options = { layer, from: to - 1, to, rope, reindex: name === "streamingLLM" };
          compareAttention(`${name} turn ${i}`, out, storedValues(prompt, stored, options), "f16");
        }
        if (i === turns) break;
        await feed(cache, prompt, { from: to, to: to + turn, attended: window });
        to += turn;
      }
      expect(cache.tokens).toBe(to);
    });
  }

  it("a cache compressed in one way goes on in another", async () => {
    using cache = new KVCache(device, {
      ...shape,
      rope,
      preRopeKeys: true,
      recordQueries: window,
      method: snapKV({ tokens: first / 2, window, group: "unfold", visibility: "head" }),
    });
    await feed(cache, prompt, { to: first, attended: window });
    await cache.compress();
    for (const method of [
      snapKV({ keep, window }),
      pyramidKV({ keep, window, group: "unfold", visibility: "head" }),
      spindleKV({ keep, window }),
      spindleKV.paper({ keep, window }),
    ].slice(isSlow ? 3 : 0)) {
      using fork = cache.fork({ method });
      await feed(fork, prompt, { from: first, to: first + turn, attended: window });
      const report = await fork.compress();
      expect(report.bytes, method.id).toBeLessThanOrEqual(report.targetBytes ?? 0);
      if (report.hasEvicted && !isSlow) {
        expect(report.bytes / (report.targetBytes ?? 0), method.id).toBeGreaterThanOrEqual(0.98);
      }
      expect(fork.stats().bytes.total).toBe(report.bytes);
      const to = first + turn;
      const outputs = await ask(fork, prompt, to - 1, to);
      for (const [layer, out] of outputs.entries()) {
        const stored = await storedLayer(fork, layer);
        const values = storedValues(prompt, stored, { layer, from: to - 1, to, rope });
        compareAttention(`${method.id}, layer ${layer}`, out, values, "f16");
      }
    }
  });

  it("needs the queries of the new turn", async () => {
    using cache = new KVCache(device, { ...shape, rope, method: methods.snapKV });
    await feed(cache, prompt, { to: first, attended: window });
    await cache.compress();
    await feed(cache, prompt, { from: first, to: first + turn });
    await expect(cache.compress()).rejects.toMatchObject({ code: "ERR_SPINDLEKV_MISSING_INPUT" });
  });
});
