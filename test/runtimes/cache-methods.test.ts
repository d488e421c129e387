/** Methods of a KVCache that act while the runtime's prompt goes through the layers. */
import { afterAll, beforeAll, describe, expect, it } from "vitest";
import { cake, type Device, KVCache, lava, type Method, openDevice } from "../../lib/index.ts";
import { type AttentionCache, LlamaModel, parseGguf } from "../../lib/runtimes/gguf-llama/index.ts";
import { smallModel } from "./small-model.ts";
import { bytePairVocabulary } from "./small-vocabularies.ts";

const model = new LlamaModel(
  parseGguf(
    smallModel(
      { architecture: "qwen3", weights: "f32", seed: 41, layers: 6 },
      bytePairVocabulary("", 0, "qwen2"),
    ),
  ),
);
const { layers, queryHeads, kvHeads, headDim, rope } = model.config;
const prompt = Int32Array.from({ length: 400 }, (_, i) => (i * i * 53 + 7 * i) % 250);

let device: Device;
beforeAll(async () => {
  device = await openDevice("cpu");
});
afterAll(() => device.dispose());

const methods: Record<string, Method> = {
  cake: cake({ tokens: 80, decode: false }),
  lava: lava({ tokens: 80 }),
};

describe.each(Object.entries(methods))("%s", (_, method) => {
  const openCache = () =>
    new KVCache(device, { layers, queryHeads, kvHeads, headDim, rope, dtype: "f32", method });
  const slots = (cache: KVCache) => cache.layers.map((layer) => layer.slots);

  it("leaves layer by layer what it leaves at the end, and never holds all of it", async () => {
    using once = openCache();
    await model.forward(prompt, { layers: once.layers }, { logits: "last" });
    await once.compress();

    using cascaded = openCache();
    let most = 0;
    const watched: AttentionCache = {
      layers: cascaded.layers.map((layer) => ({
        append: (k, v, n) => {
          layer.append(k, v, n);
          most = Math.max(
            most,
            slots(cascaded)
              .flat()
              .reduce((sum, count) => sum + count, 0),
          );
        },
        attend: (q, out, n) => layer.attend(q, out, n),
        compress: () => layer.compress(),
      })),
    };
    await model.forward(prompt, watched, { logits: "last", compressLayers: true });

    expect(slots(cascaded)).toEqual(slots(once));
    expect(new Set(slots(once).map(String)).size).toBeGreaterThan(1);
    // The budget, and one layer whole.
    expect(most).toBeLessThanOrEqual((layers * 80 + prompt.length) * kvHeads);
    const next = Int32Array.of(9);
    expect(await model.forward(next, { layers: cascaded.layers }, { logits: "last" })).toEqual(
      await model.forward(next, { layers: once.layers }, { logits: "last" }),
    );
  });
});
