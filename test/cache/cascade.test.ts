// Compression layer by layer: what it leaves, how little memory it takes on the way, what it refuses.
import { expect, it } from "vitest";
import {
  cake,
  compose,
  dynamicKV,
  type KVCache,
  lava,
  type Method,
  observationWindow,
  pyramid,
  snapKV,
  type TargetOptions,
  topK,
} from "../../lib/index.ts";
import { describeOp } from "../harness/backends.ts";
import { storedLayer } from "../methods/kept.ts";
import { fillByLayer, unevenPrompt } from "../methods/planned.ts";

describeOp("a cascade", (backend, device) => {
  const isSlow = backend === "simt";
  const layers = isSlow ? 2 : 6;
  const tokens = isSlow ? 18 : 150;
  const window = isSlow ? 3 : 8;
  const shape = { layers, queryHeads: 4, kvHeads: 2, headDim: 16, dtype: "f16" } as const;
  const prompt = unevenPrompt(shape, tokens, 13);
  const options = { attended: window, pageSlots: 16 };

  const methods: Record<string, (target: TargetOptions) => Method> = {
    cake: (target) => cake({ ...target, window }),
    "cake without decoding": (target) => cake({ ...target, window, decode: false, sinks: 2 }),
    lava: (target) => lava({ ...target, window }),
    "lava with a floor": (target) => lava({ ...target, window, floor: 0.3 }),
    dynamicKV: (target) => dynamicKV({ ...target, window }),
    "dynamicKV most 1.2": (target) => dynamicKV({ ...target, window, most: 1.2 }),
    "pyramid per layer": ({ keep, bytes, tokens: each }) =>
      compose({
        id: "snap-pyramid",
        target:
          each === undefined
            ? bytes === undefined
              ? { keep: keep ?? 1 }
              : { bytes }
            : { tokens: each },
        score: observationWindow({ window }),
        budget: pyramid(),
        select: topK({}),
        schedule: "per-layer",
      }),
  };
  const each = window + (isSlow ? 4 : 22);
  const targets: TargetOptions[] = isSlow
    ? [{ tokens: each }]
    : [{ tokens: each }, { keep: 0.3 }, { bytes: 40_000 }];

  const contents = async (cache: KVCache) => {
    const all = await Promise.all(cache.layers.map(({ index }) => storedLayer(cache, index)));
    return all.map((heads) =>
      heads.map(({ positions, keys, values }) => ({
        positions: Array.from(positions),
        keys: Array.from(keys),
        values: Array.from(values),
      })),
    );
  };

  for (const [name, make] of Object.entries(methods)) {
    for (const target of targets) {
      it(`leaves what one compression of the whole prompt leaves: ${name}, ${JSON.stringify(target)}`, async () => {
        const method = make(target);
        using whole = await fillByLayer(device, prompt, { ...options, method });
        const report = await whole.compress();
        expect(report.hasEvicted).toBe(true);
        using cascaded = await fillByLayer(device, prompt, { ...options, method }, (cache, layer) =>
          cache.layers[layer].compress(),
        );
        expect(await contents(cascaded)).toEqual(await contents(whole));
        if (target.tokens !== undefined) {
          expect(report.slots).toBe(layers * shape.kvHeads * target.tokens);
        }
        // compress() after the last layer has nothing left to do.
        expect((await cascaded.compress()).slots).toBe(report.slots);
        expect(cascaded.stats().bytes.total).toBeLessThanOrEqual(
          report.targetBytes ?? Number.POSITIVE_INFINITY,
        );
      });
    }
  }

  it("takes the memory of its budget and of two whole layers at most", async () => {
    const deep = unevenPrompt({ ...shape, layers: isSlow ? 3 : 12 }, tokens, 13);
    for (const [name, make] of Object.entries(methods)) {
      const method = make({ tokens: each });
      using whole = await fillByLayer(device, deep, { ...options, method });
      const before = whole.stats();
      const oneLayer = before.perLayer[0].bytes;
      await whole.compress();
      const budget = whole.stats().bytes.total;
      using cache = await fillByLayer(device, deep, { ...options, method }, (own, layer) =>
        own.layers[layer].compress(),
      );
      expect(cache.stats().bytes.total, name).toBe(budget);
      // The layer that came in, and what is kept of one layer, which moves into new pages before the old ones go.
      const { peakBytesUsed } = cache.stats().pool;
      expect(peakBytesUsed, name).toBeLessThanOrEqual(1.05 * budget + 2 * oneLayer);
      if (!isSlow) expect(peakBytesUsed, name).toBeLessThan(0.45 * before.bytes.total);
    }
  });

  it("goes layer by layer, with a method that is made for it", async () => {
    const refused = (work: Promise<void>, param: string) =>
      expect(work).rejects.toMatchObject({ code: "ERR_SPINDLEKV_ARGUMENT", op: "compress", param });
    using cache = await fillByLayer(device, prompt, {
      ...options,
      method: dynamicKV({ tokens: each, window }),
    });
    await refused(cache.layers[1].compress(), "layer");
    await cache.layers[0].compress();
    await refused(cache.layers[0].compress(), "layer");
    await cache.layers[1].compress();
    using other = await fillByLayer(device, prompt, {
      ...options,
      method: snapKV({ tokens: each, window }),
    });
    await refused(other.layers[0].compress(), "method");
  });

  it("leaves short prompts alone", async () => {
    const method = dynamicKV({ tokens: tokens + 5, window });
    using cache = await fillByLayer(device, prompt, { ...options, method }, (own, layer) =>
      own.layers[layer].compress(),
    );
    expect(cache.layers.map(({ slots }) => slots)).toEqual(
      new Array(layers).fill([tokens, tokens]),
    );
  });
});
