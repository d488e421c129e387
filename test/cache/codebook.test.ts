// Codebooks in the cache: what references give back, insertion at decode, refinement, fixed sizes.
import { expect, it, vi } from "vitest";
import { storeAddon } from "../../lib/cache/native-store.ts";
import { KVCache, type KVCacheOptions, type SpindleKVOptions, spindleKV } from "../../lib/index.ts";
import { Tensor } from "../harness/api.ts";
import { describeOp } from "../harness/backends.ts";
import { codewordBound } from "../harness/tolerance.ts";
import { storedLayer } from "../methods/kept.ts";
import { buildCodebookOracle } from "../oracle/build-codebook.ts";
import { unitRoundoff } from "../oracle/float-formats.ts";
import { ask, codeOf, feed, makePrompt, type Prompt, sliceTokens } from "./fixtures.ts";
import { compareAttention, storedValues } from "./reference.ts";

const shape = { layers: 3, queryHeads: 4, kvHeads: 2, headDim: 32, dtype: "f16" } as const;
const rope = { theta: 10_000, style: "norm" } as const;
const clusters = [4, 20, 0];
const everything = 1 << 30;

/** Row of a token as it was appended. */
function rowOf(prompt: Prompt, layer: number, part: "k" | "v", head: number, token: number) {
  const { headDim, kvHeads } = prompt.shape;
  const rows = sliceTokens(prompt.layers[layer][part], kvHeads, headDim, token, token + 1);
  return rows.subarray(head * headDim, (head + 1) * headDim);
}

function cosine(a: ArrayLike<number>, b: ArrayLike<number>): number {
  let [ab, aa, bb] = [0, 0, 0];
  for (let d = 0; d < a.length; d++) {
    ab += a[d] * b[d];
    aa += a[d] * a[d];
    bb += b[d] * b[d];
  }
  return ab / Math.sqrt(aa * bb);
}

/** Squared error of everything that is stored, over what was appended; checks the angle of every row. */
async function reconstructionError(
  cache: KVCache,
  prompt: Prompt,
  thetas: { k: number; v: number },
): Promise<number> {
  const { headDim } = prompt.shape;
  const slack = codewordBound(headDim, "f16") + 2 * unitRoundoff("f16");
  let error = 0;
  for (const layer of cache.layers) {
    const heads = await storedLayer(cache, layer.index);
    heads.forEach((head, h) => {
      head.positions.forEach((token, slot) => {
        for (const part of ["k", "v"] as const) {
          const rows = part === "k" ? head.keys : head.values;
          const got = rows.subarray(slot * headDim, (slot + 1) * headDim);
          const wanted = rowOf(prompt, layer.index, part, h, token);
          const similarity = cosine(got, wanted);
          if (!(similarity > thetas[part] - slack)) {
            throw new Error(
              `layer ${layer.index}, head ${h}, token ${token}, ${part}: cosine ${similarity}, theta ${thetas[part]}`,
            );
          }
          for (let d = 0; d < headDim; d++) error += (got[d] - wanted[d]) ** 2;
        }
      });
    });
  }
  return error;
}

describeOp("codebooks", (backend, device) => {
  const isSlow = backend === "simt";
  const tokens = isSlow ? 12 : 200;
  const window = isSlow ? 2 : 8;

  const compressed = async (
    prompt: Prompt,
    options: SpindleKVOptions,
    cacheOptions: Partial<KVCacheOptions> = {},
    to = tokens,
  ) => {
    const method = spindleKV({ window, theta: "fixed", refine: 0, ...options });
    const cache = new KVCache(device, { ...prompt.shape, rope, method, ...cacheOptions });
    await feed(cache, prompt, { to, attended: window });
    const report = await cache.compress();
    return { cache, report };
  };

  const expectDecodes = async (cache: KVCache, prompt: Prompt, to: number) => {
    const outputs = await ask(cache, prompt, to - 1, to);
    for (const [layer, out] of outputs.entries()) {
      const stored = await storedLayer(cache, layer);
      const values = storedValues(prompt, stored, { layer, from: to - 1, to, rope });
      compareAttention(`layer ${layer}`, out, values, "f16");
    }
    const { bytes, pool } = cache.stats();
    expect(bytes.total).toBe(pool.bytesUsed);
  };

  const variants: Record<string, SpindleKVOptions> = {
    plain: {},
    "the recent raw": { recentRaw: true },
    refined: { refine: 2 },
    "few codewords": { codewords: isSlow ? 22 : 48 },
    sinks: { sinks: 3 },
    "heads apart": { group: "unfold", visibility: "head" },
  };

  it.each(Object.entries(variants))(
    "that a trial of the budget found are those that encoding finds: %s",
    async (_name, options) => {
      const count = isSlow ? 40 : tokens;
      const prompt = makePrompt({ ...shape, layers: 1 }, count, { clusters: [0.6 * count] });
      const encode = vi.spyOn(storeAddon(), "draftEncode");
      const covers = () => encode.mock.calls.map(([, { cover }]) => cover !== undefined);
      try {
        const keep = isSlow ? 0.6 : 0.3;
        const tried = await compressed(prompt, { keep, ...options }, {}, count);
        using _a = tried.cache;
        expect(tried.report.hasEvicted).toBe(true);
        expect(covers()).toEqual([true]);
        const guarded = window + (options.sinks ?? 0);
        const [ranked] = tried.report.plan as readonly [number];
        const told = await compressed(prompt, { tokens: ranked + guarded, ...options }, {}, count);
        using _b = told.cache;
        expect(covers()).toEqual([true, false]);
        expect(await told.cache.snapshot()).toEqual(await tried.cache.snapshot());
      } finally {
        encode.mockRestore();
      }
    },
  );

  it("are not made of a cover that is not of these slots", async () => {
    const prompt = makePrompt(shape, tokens);
    const { kvHeads } = shape;
    using cache = new KVCache(device, { ...shape, rope, method: spindleKV({ keep: 0.5, window }) });
    await feed(cache, prompt, { to: tokens, attended: window });
    const before = await cache.snapshot();
    const addon = storeAddon();
    const encodeWith = async (length: number, codewords: number, lastSlot: number) => {
      using lists = Tensor.from(device, "i32", [length], new Int32Array(length).fill(tokens - 1));
      const ascending = Array.from({ length: kvHeads * tokens }, (_v, i) => i % tokens);
      const all = ascending.map((slot) => (slot === tokens - 1 ? lastSlot : slot));
      using slots = Tensor.from(device, "i32", [kvHeads, tokens], Int32Array.from(all));
      const draft = {};
      addon.draftCreate(draft, cache);
      const thetas = { thetaK: 0.98, thetaV: 0.95 };
      const rest = { layer: 0, refine: 0, codewords: 0, rawRecent: 0 };
      const cover = { lists, slots, codewords: [codewords, 1, 1, 1] };
      try {
        return await codeOf(addon.draftEncode(draft, { ...thetas, ...rest, cover }));
      } finally {
        addon.draftDispose(draft);
      }
    };
    const length = 4 * kvHeads * tokens;
    for (const [lists, codewords, lastSlot] of [
      [length - 1, 1, tokens - 1],
      [length, 0, tokens - 1],
      [length, tokens + 1, tokens - 1],
      [length, 1, tokens],
    ] as const) {
      expect(await encodeWith(lists, codewords, lastSlot)).toBe("ERR_SPINDLEKV_ARGUMENT");
    }
    expect(await cache.snapshot()).toEqual(before);
  });

  it("give back every row within theta, and attention is attention over them", async () => {
    const prompt = makePrompt(shape, tokens, { clusters });
    const { cache, report } = await compressed(prompt, { bytes: everything });
    using _ = cache;
    expect(report).toMatchObject({ hasEvicted: false, thetas: { k: 0.98, v: 0.95 } });
    await reconstructionError(cache, prompt, { k: 0.98, v: 0.95 });
    await expectDecodes(cache, prompt, tokens);
    // As many codewords as the float64 cover of each head's rows.
    const { headDim, kvHeads } = shape;
    cache.stats().perLayer.forEach(({ heads }, layer) => {
      heads.forEach((head, h) => {
        for (const [part, theta, count] of [
          ["k", 0.98, head.kCodewords],
          ["v", 0.95, head.vCodewords],
        ] as const) {
          const perHead = tokens * headDim;
          const x = prompt.layers[layer][part].subarray(h * perHead, (h + 1) * perHead);
          const cover = buildCodebookOracle({ x, n: tokens, headDim, dtype: "f16", theta });
          expect(count, `${part} of layer ${layer}, head ${h}`).toBe(cover.leaders.length);
        }
        expect(head.encodedSlots).toBe(tokens);
      });
    });
    const perLayer = cache.stats().perLayer.map((layer) => layer.bytes);
    expect(perLayer).toEqual([...perLayer].sort((a, b) => a - b));
    expect(kvHeads).toBe(2);
  });

  it("of every dtype", async () => {
    for (const dtype of ["f32", "bf16"] as const) {
      const prompt = makePrompt({ ...shape, layers: 1, dtype }, tokens, { clusters: [4] });
      const { cache } = await compressed(prompt, { bytes: everything });
      using _ = cache;
      const [out] = await ask(cache, prompt, tokens - 1, tokens);
      const stored = await storedLayer(cache, 0);
      const options = { layer: 0, from: tokens - 1, to: tokens, rope };
      compareAttention(dtype, out, storedValues(prompt, stored, options), dtype);
    }
  });

  it("leave the protected slots raw when asked to", async () => {
    const prompt = makePrompt(shape, tokens, { clusters });
    const { cache, report } = await compressed(prompt, { bytes: everything, recentRaw: true });
    using _ = cache;
    expect(report.hasEvicted).toBe(false);
    for (const head of cache.stats().perLayer.flatMap((layer) => layer.heads)) {
      expect(head).toMatchObject({ slots: tokens, encodedSlots: tokens - window });
    }
    await expectDecodes(cache, prompt, tokens);
  });

  it("refinement keeps the angle and never raises the error", async () => {
    const prompt = makePrompt(shape, tokens, { clusters, noise: 0.12 });
    const errors: number[] = [];
    const codewords: number[] = [];
    for (const refine of [0, 1, 6]) {
      const { cache } = await compressed(prompt, { bytes: everything, refine, thetaK: 0.95 });
      using _ = cache;
      errors.push(await reconstructionError(cache, prompt, { k: 0.95, v: 0.95 }));
      const heads = cache.stats().perLayer.flatMap((layer) => layer.heads);
      codewords.push(heads.reduce((sum, head) => sum + head.kCodewords + head.vCodewords, 0));
      await expectDecodes(cache, prompt, tokens);
    }
    expect(errors).toEqual([...errors].sort((a, b) => b - a));
    if (!isSlow) expect(errors[2]).toBeLessThan(errors[0]);
    expect(codewords).toEqual([...codewords].sort((a, b) => b - a));
  });

  it("of a fixed size: no codebook is larger, also after decode", async () => {
    const more = isSlow ? 6 : 40;
    const prompt = makePrompt(shape, tokens + more, { clusters });
    const { cache } = await compressed(prompt, {
      bytes: everything,
      codewords: 5,
      insertInterval: 2,
    });
    using _ = cache;
    const sizes = () =>
      cache
        .stats()
        .perLayer.flatMap(({ heads }) => heads.flatMap((h) => [h.kCodewords, h.vCodewords]));
    expect(sizes().every((count) => count <= 5)).toBe(true);
    expect(Math.max(...sizes())).toBe(5);
    await feed(cache, prompt, { from: tokens, chunk: 1 });
    expect(sizes().every((count) => count <= 5)).toBe(true);
    expect(cache.stats().perLayer[0].heads[0].encodedSlots).toBeGreaterThan(tokens);
    await expectDecodes(cache, prompt, tokens + more);
  });

  it("take in what is decoded: in blocks, behind the recent slots", async () => {
    const more = isSlow ? 7 : 70;
    const interval = isSlow ? 2 : 16;
    const prompt = makePrompt(shape, tokens + more, { clusters });
    const { cache } = await compressed(prompt, { bytes: everything, insertInterval: interval });
    using _ = cache;
    for (let token = tokens; token < tokens + more; token++) {
      await feed(cache, prompt, { from: token, to: token + 1 });
      for (const head of cache.stats().perLayer.flatMap((layer) => layer.heads)) {
        const raw = head.slots - head.encodedSlots;
        expect(head.slots).toBe(token + 1);
        expect(raw).toBeLessThan(window + interval);
        expect((head.encodedSlots - tokens) % interval).toBe(0);
      }
      expect(cache.stats().bytes.total).toBe(cache.stats().pool.bytesUsed);
    }
    await reconstructionError(cache, prompt, { k: 0.98, v: 0.95 });
    await expectDecodes(cache, prompt, tokens + more);
  });

  it("reuse codewords for rows they know and add them for others", async () => {
    const more = window + 4;
    const known = makePrompt({ ...shape, layers: 1 }, tokens + more, { seed: 5, clusters: [4] });
    const { headDim, kvHeads } = shape;
    const perHead = (tokens + more) * headDim;
    // Decoded rows repeat prompt rows at twice the length: the same directions.
    for (const rows of [known.layers[0].k, known.layers[0].v]) {
      for (let h = 0; h < kvHeads; h++) {
        for (let t = 0; t < more; t++) {
          const from = h * perHead + (t % tokens) * headDim;
          const twice = rows.slice(from, from + headDim).map((x) => 2 * x);
          rows.set(twice, h * perHead + (tokens + t) * headDim);
        }
      }
    }
    const fresh = makePrompt({ ...shape, layers: 1 }, tokens + more, { seed: 5, clusters: [0] });
    for (const [prompt, isKnown] of [
      [known, true],
      [fresh, false],
    ] as const) {
      const { cache } = await compressed(prompt, { bytes: everything, insertInterval: 4 });
      using _ = cache;
      const before = cache.stats().perLayer[0].heads;
      await feed(cache, prompt, { from: tokens, chunk: 1 });
      cache.stats().perLayer[0].heads.forEach((head, h) => {
        expect(head.encodedSlots).toBe(tokens + 4);
        expect(head.kCodewords).toBe(before[h].kCodewords + (isKnown ? 0 : 4));
        expect(head.vCodewords).toBe(before[h].vCodewords + (isKnown ? 0 : 4));
      });
      await reconstructionError(cache, prompt, { k: 0.98, v: 0.95 });
    }
  });

  it("leave decoded tokens raw when insertion is off", async () => {
    const prompt = makePrompt({ ...shape, layers: 1 }, tokens + 20, { clusters: [4] });
    const { cache } = await compressed(prompt, { bytes: everything, insertInterval: 0 });
    using _ = cache;
    await feed(cache, prompt, { from: tokens });
    expect(cache.stats().perLayer[0].heads[0]).toMatchObject({
      slots: tokens + 20,
      encodedSlots: tokens,
    });
  });

  it("zero rows and NaN decoded later stay with their own slots", async () => {
    const prompt = makePrompt({ ...shape, layers: 1 }, tokens + window + 4, { clusters: [4] });
    const { headDim } = shape;
    const { k, v } = prompt.layers[0];
    k.fill(0, 2 * headDim, 4 * headDim);
    v.fill(0, 0, headDim);
    const perHead = k.length / 2;
    k[tokens * headDim] = Number.NaN; // first decoded token of head 0
    for (const codewords of [0, 3]) {
      const { cache } = await compressed(prompt, {
        bytes: everything,
        insertInterval: 4,
        codewords,
      });
      using _ = cache;
      const [zeros] = await storedLayer(cache, 0);
      expect(zeros.keys.subarray(2 * headDim, 4 * headDim).every((x) => x === 0)).toBe(true);
      await feed(cache, prompt, { from: tokens, chunk: 1 });
      const [head, other] = await storedLayer(cache, 0);
      const isBad = Array.from(head.positions, (_p, s) =>
        head.keys.subarray(s * headDim, (s + 1) * headDim).some(Number.isNaN),
      );
      expect(isBad.flatMap((bad, s) => (bad ? [head.positions[s]] : []))).toEqual([tokens]);
      expect(other.keys.some(Number.isNaN)).toBe(false);
      expect(perHead).toBe(prompt.tokens * headDim);
    }
  });
});
