// Exact budgets: bytes never above the target and at least 0.99 of it when anything went, tokens to the slot,
// for every method, and everything that is reported is what the pool holds.
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
  prefixKV,
  pyramidKV,
  type SpindleKVOptions,
  slidingWindow,
  snapKV,
  spindleKV,
  squeezeAttention,
  streamingLLM,
  type TargetOptions,
  tova,
  zigzagKV,
} from "../../lib/index.ts";
import { describeOp } from "../harness/backends.ts";
import { feed, makePrompt, type Prompt, contentsOf } from "./fixtures.ts";

const rope = { theta: 10_000, style: "neox" } as const;
const keeps = [0.5, 0.3, 0.15, 0.1, 0.06];

/** Every method of the library by its target. */
const methods: Record<string, (target: TargetOptions) => Method> = {
  slidingWindow: (target) => slidingWindow(target),
  streamingLLM: (target) => streamingLLM(target),
  snapKV: (target) => snapKV(target),
  "snapKV unfold": (target) => snapKV({ ...target, group: "unfold", visibility: "head" }),
  pyramidKV: (target) => pyramidKV(target),
  spindleKV: (target) => spindleKV(target),
  "spindleKV raw window": (target) => spindleKV({ ...target, recentRaw: true }),
  "spindleKV refined": (target) => spindleKV({ ...target, refine: 2 }),
  "spindleKV.paper": (target) => spindleKV.paper(target),
  h2o: (target) => h2o(target),
  tova: (target) => tova(target),
  zigzagKV: (target) => zigzagKV(target),
  prefixKV: (target) => prefixKV(target),
  adaKV: (target) => adaKV(target),
  "adaKV pyramid": (target) => adaKV({ ...target, layers: "pyramid" }),
  "squeezeAttention sliding-window": (target) =>
    squeezeAttention({ ...target, policy: "sliding-window" }),
  "squeezeAttention streaming-llm": (target) => squeezeAttention(target),
  "squeezeAttention h2o": (target) => squeezeAttention({ ...target, policy: "h2o" }),
  cake: (target) => cake(target),
  lava: (target) => lava(target),
  dynamicKV: (target) => dynamicKV(target),
};

/** Those that must know their size before the later layers are there reckon it instead of searching for it. */
const leastShare = (method: Method) => (method.schedule === "per-layer" ? 0.97 : 0.99);

/** Hidden states that change more in some layers than in others. */
function observe(cache: KVCache): void {
  for (const { index } of cache.layers) {
    const cosine = [0.4, 0.9, 0.6, 0.95][index % 4];
    const after = Float32Array.of(cosine, Math.sqrt(1 - cosine * cosine));
    cache.layers[index].observe(Float32Array.of(1, 0), after, 1);
  }
}

describeOp("byte budgets", (backend, device) => {
  // Thousands of slots are for the fast backends; here the same path is walked once.
  const isSlow = backend === "simt";
  const shape = { layers: 4, queryHeads: 8, kvHeads: 2, headDim: 32, dtype: "f16" } as const;
  const tokens = isSlow ? 40 : 1200;
  // Shallow layers repeat themselves, deep ones do not, as in real models.
  const prompt = makePrompt(shape, tokens, { clusters: [12, 100, 600, 0], noise: 0.1 });

  const base = async (full: Prompt = prompt) => {
    const cache = new KVCache(device, {
      ...full.shape,
      rope,
      preRopeKeys: true,
      recordQueries: 32,
      accumulateScores: "kv-head",
    });
    await feed(cache, full, { attended: 32 });
    observe(cache);
    return cache;
  };

  it("are met within 1 % by every method, and never exceeded", async () => {
    using cache = await base();
    const untouched = await contentsOf(cache);
    for (const [name, make] of Object.entries(methods)) {
      if (isSlow && !["spindleKV", "adaKV"].includes(name)) continue;
      for (const keep of isSlow ? [0.95] : keeps) {
        const id = `${name} keep=${keep}`;
        using fork = cache.fork({ method: make({ keep }) });
        const report = await fork.compress();
        const target = Math.floor(keep * report.nativeBytes);
        expect(report.targetBytes, id).toBe(target);
        expect(report.nativeBytes).toBe(4 * 2 * tokens * 32 * 4);
        expect(report.bytes, id).toBeLessThanOrEqual(target);
        if (report.hasEvicted && !isSlow) {
          expect(report.bytes / target, id).toBeGreaterThanOrEqual(leastShare(fork.method));
        }
        expect(fork.stats().bytes.total, id).toBe(report.bytes);
        expect(fork.stats().ratio, id).toBeLessThanOrEqual(keep);
        const slots = fork.stats().perLayer.reduce((sum, layer) => sum + layer.slots, 0);
        expect(report.slots, id).toBe(slots);
        expect(report.hasEvicted, id).toBe(slots < report.slotsBefore);
      }
    }
    expect(await contentsOf(cache)).toBe(untouched);
  });

  if (isSlow) return;

  it("more budget never keeps fewer slots", async () => {
    using cache = await base();
    const plans: (readonly number[])[] = [];
    for (const keep of [...keeps].reverse()) {
      using fork = cache.fork({ method: spindleKV({ keep }) });
      plans.push((await fork.compress()).plan ?? []);
    }
    const totals = plans.map((plan) => plan.reduce((a, b) => a + b, 0));
    expect(totals).toEqual([...totals].sort((a, b) => a - b));
    expect(new Set(totals).size).toBeGreaterThan(1);
  });

  it("evict nothing where codebooks alone fit, and say so", async () => {
    const alike = makePrompt(shape, 800, { clusters: [6, 10, 14, 20], noise: 0.05 });
    using cache = await base(alike);
    const compress = async (options: SpindleKVOptions) => {
      using fork = cache.fork({ method: spindleKV(options) });
      const report = await fork.compress();
      return { report, heads: fork.stats().perLayer.flatMap((layer) => layer.heads) };
    };
    const fixed = await compress({ keep: 0.3, theta: "fixed" });
    expect(fixed.report).toMatchObject({ hasEvicted: false, thetas: { k: 0.98, v: 0.95 } });
    expect(fixed.report.bytes).toBeLessThan(0.5 * (fixed.report.targetBytes ?? 0));
    // "auto" spends what is left on similarity, K and V by the same share, and stays inside.
    const auto = await compress({ keep: 0.3, theta: "auto" });
    const thetas = auto.report.thetas ?? { k: 0, v: 0 };
    expect(auto.report.hasEvicted).toBe(false);
    expect(thetas.k).toBeGreaterThan(0.98);
    expect((1 - thetas.k) / (1 - 0.98)).toBeCloseTo((1 - thetas.v) / (1 - 0.95), 6);
    expect(auto.report.bytes).toBeGreaterThan(fixed.report.bytes);
    expect(auto.report.bytes).toBeLessThanOrEqual(auto.report.targetBytes ?? 0);
    // Where something must go, similarity is not raised.
    const tight = await compress({ keep: 0.05, theta: "auto" });
    expect(tight.report).toMatchObject({ hasEvicted: true, thetas: { k: 0.98, v: 0.95 } });
  });

  it("hold for codebooks of a fixed size", async () => {
    using cache = await base(makePrompt(shape, 300, { clusters: [12, 100, 0, 0] }));
    for (const keep of [0.4, 0.2]) {
      using fork = cache.fork({ method: spindleKV({ keep, codewords: 40 }) });
      const report = await fork.compress();
      expect(report.bytes).toBeLessThanOrEqual(report.targetBytes ?? 0);
      if (report.hasEvicted) {
        expect(report.bytes).toBeGreaterThanOrEqual(0.99 * (report.targetBytes ?? 0));
      }
      const heads = fork.stats().perLayer.flatMap((layer) => layer.heads);
      expect(Math.max(...heads.flatMap((h) => [h.kCodewords, h.vCodewords]))).toBeLessThanOrEqual(
        40,
      );
    }
  });

  it("hold for odd sizes of rows and pages, and for other dtypes", async () => {
    for (const dtype of ["f32", "bf16"] as const) {
      const odd = { layers: 3, queryHeads: 3, kvHeads: 1, headDim: 24, dtype } as const;
      const small = makePrompt(odd, 700, { clusters: [10, 200, 0] });
      using cache = await base(small);
      for (const make of Object.values(methods)) {
        using fork = cache.fork({ method: make({ keep: 0.2 }) });
        const report = await fork.compress();
        expect(report.bytes, report.method).toBeLessThanOrEqual(report.targetBytes ?? 0);
        if (report.hasEvicted) {
          const share = report.bytes / (report.targetBytes ?? 0);
          const least = leastShare(fork.method);
          expect(share, `${report.method} ${dtype}`).toBeGreaterThanOrEqual(least);
        }
      }
    }
  });
});

describeOp("targets", (backend, device) => {
  const isSlow = backend === "simt";
  const shape = { layers: 3, queryHeads: 4, kvHeads: 2, headDim: 16, dtype: "f16" } as const;
  const tokens = isSlow ? 16 : 160;
  const window = isSlow ? 2 : 8;
  const prompt = makePrompt(shape, tokens + 40, { clusters: [4, 20, 0] });
  const importance = [
    [0.9, 0.2],
    [0.4, 0.5],
    [0.1, 0.3],
  ];
  const profile = { model: "made up", importance, tau: 1, least: 0.2 };
  const small: Record<string, (target: TargetOptions) => Method> = {
    slidingWindow: (target) => slidingWindow(target),
    streamingLLM: (target) => streamingLLM({ ...target, sinks: 2 }),
    snapKV: (target) => snapKV({ ...target, window }),
    pyramidKV: (target) => pyramidKV({ ...target, window }),
    spindleKV: (target) => spindleKV({ ...target, window }),
    "with sinks": (target) => spindleKV({ ...target, window, sinks: 3 }),
    h2o: (target) => h2o(target),
    tova: (target) => tova(target),
    zigzagKV: (target) => zigzagKV({ ...target, window }),
    prefixKV: (target) => prefixKV(target),
    adaKV: (target) => adaKV({ ...target, window }),
    squeezeAttention: (target) => squeezeAttention({ ...target, sinks: 2 }),
    cake: (target) => cake({ ...target, window }),
    lava: (target) => lava({ ...target, window }),
    dynamicKV: (target) => dynamicKV({ ...target, window }),
    baklava: (target) => baklava({ ...target, window, profile }),
  };
  const filled = async (method: Method) => {
    const cache = new KVCache(device, { ...shape, rope, method, pageSlots: 16 });
    await feed(cache, prompt, { to: tokens, attended: window });
    observe(cache);
    return cache;
  };

  it("in tokens are met to the slot", async () => {
    const counts = isSlow ? [6, 11] : [11, 30, 47, 133];
    for (const [name, make] of Object.entries(small)) {
      for (const count of [...counts, tokens, tokens + 50]) {
        using cache = await filled(make({ tokens: count }));
        const report = await cache.compress();
        const kept = Math.min(count, tokens);
        expect(report.slots, `${name} ${count}`).toBe(3 * 2 * kept);
        expect(report).toMatchObject({ targetBytes: null, hasEvicted: kept < tokens });
      }
    }
  });

  it("too small for the protected slots are an error that says how much they take", async () => {
    for (const make of [small["with sinks"], small.spindleKV, small.snapKV]) {
      if (isSlow && make !== small.snapKV) continue;
      for (const target of [{ tokens: window - 1 }, { bytes: 64 }, { keep: 1e-5 }]) {
        using cache = await filled(make(target));
        const before = await contentsOf(cache);
        const error = await cache.compress().catch((reason) => reason);
        expect(error).toMatchObject({ code: "ERR_SPINDLEKV_ARGUMENT", op: "compress" });
        expect(error.message).toMatch(/protected slots/);
        expect(await contentsOf(cache)).toBe(before);
        await feed(cache, prompt, { from: tokens, to: tokens + 1 });
        // What the message says suffices: the same prompt under that many bytes.
        const least = Number(/at least the (\d+) bytes/.exec(error.message)?.[1] ?? 0);
        if (least === 0) continue;
        using enough = await filled(make({ bytes: least }));
        expect((await enough.compress()).bytes).toBeLessThanOrEqual(least);
        using less = await filled(make({ bytes: least - 1 }));
        await expect(less.compress()).rejects.toMatchObject({ code: "ERR_SPINDLEKV_ARGUMENT" });
      }
    }
  });

  it("bytes are what the pool holds: before, after and while decoding; eviction frees pages", async () => {
    for (const [name, make] of Object.entries(small)) {
      using cache = await filled(make({ tokens: isSlow ? 7 : 24 }));
      const before = cache.stats();
      expect(before.bytes.total, name).toBe(before.pool.bytesUsed);
      const report = await cache.compress();
      const after = cache.stats();
      expect(after.bytes.total, name).toBe(after.pool.bytesUsed);
      expect(report).toMatchObject({
        bytesBefore: before.bytes.total,
        bytes: after.bytes.total,
        tokens,
      });
      expect(after.pool.pagesUsed, name).toBeLessThan(before.pool.pagesUsed);
      expect(after.pool.bytesUsed).toBe(after.pool.pagesUsed * after.pool.pageBytes);
      for (let token = tokens; token < tokens + (isSlow ? 4 : 40); token++) {
        await feed(cache, prompt, { from: token, to: token + 1 });
        const { bytes, pool } = cache.stats();
        expect(bytes.total, `${name} at token ${token}`).toBe(pool.bytesUsed);
        const { total, ...parts } = bytes;
        expect(Object.values(parts).reduce((a, b) => a + b, 0)).toBe(total);
      }
    }
  });
});
