/** Every architecture, weight type and frequency scaling of the runtime against float64 loops. */
import { afterAll, beforeAll, describe, expect, it } from "vitest";
import { type Device, KVCache, openDevice } from "../../lib/index.ts";
import { type AttentionCache, LlamaModel, parseGguf } from "../../lib/runtimes/gguf-llama/index.ts";
import { ReferenceCache } from "./reference-cache.ts";
import { runReference } from "./reference-model.ts";
import { smallModel } from "./small-model.ts";
import { smallModels } from "./small-models.ts";
import { bytePairVocabulary } from "./small-vocabularies.ts";

const vocabulary = bytePairVocabulary("", 0, "qwen2");
const ids = Int32Array.from({ length: 70 }, (_, i) => (i * 37 + 11) % 250);

let device: Device;
beforeAll(async () => {
  device = await openDevice("cpu");
});
afterAll(() => device.dispose());

describe.each(Object.entries(smallModels))("%s", (_, options) => {
  const file = parseGguf(smallModel(options, vocabulary));
  const model = new LlamaModel(file);
  const { layers, queryHeads, kvHeads, headDim, rope } = model.config;
  const reference = runReference(file, model.config, ids);

  /** Largest difference between the runtime's logits and the reference's, in units of their spread. */
  async function error(cache: AttentionCache): Promise<number> {
    const logits = await model.forward(ids, cache, { logits: "all" });
    const expected = Float64Array.from([...reference.logits.values()].flatMap((row) => [...row]));
    const spread = Math.sqrt(expected.reduce((sum, x) => sum + x * x, 0) / expected.length);
    return logits.reduce((most, x, i) => Math.max(most, Math.abs(x - expected[i]) / spread), 0);
  }

  it("gives the logits of float64 loops on a naive cache", async () => {
    expect(await error(new ReferenceCache(model.config))).toBeLessThan(2e-5);
  });

  it("gives them on a KVCache that is handed the configuration", async () => {
    using cache = new KVCache(device, { layers, queryHeads, kvHeads, headDim, rope, dtype: "f32" });
    expect(await error(cache)).toBeLessThan(2e-5);
  });
});
