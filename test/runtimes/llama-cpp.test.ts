/**
 * The example runtime against llama.cpp (through node-llama-cpp) on the same GGUF files and tokens: the recall model,
 * and generated ones of every architecture, weight type and frequency scaling it reads.
 */
import { mkdtemp, rm, writeFile } from "node:fs/promises";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { fileURLToPath } from "node:url";
import { afterAll, beforeAll, describe, expect, it } from "vitest";
import { needle } from "../../lib/eval/index.ts";
import { type Device, KVCache, openDevice } from "../../lib/index.ts";
import {
  type AttentionCache,
  type LlamaConfig,
  LlamaModel,
  type RopeConfig,
  readGguf,
  tokenizerFromGguf,
} from "../../lib/runtimes/gguf-llama/index.ts";
import { hasLlamaCpp, llamaCppProbabilities, llamaCppTokens } from "../cross-check/llama-cpp.ts";
import { ReferenceCache } from "./reference-cache.ts";
import { smallModel } from "./small-model.ts";
import { smallModels } from "./small-models.ts";
import { bytePairVocabulary } from "./small-vocabularies.ts";
import type { WeightType } from "./weight-types.ts";

let device: Device;
let folder: string;
beforeAll(async () => {
  device = await openDevice("cpu");
  folder = await mkdtemp(join(tmpdir(), "spindlekv-llama-cpp-"));
});
afterAll(async () => {
  device.dispose();
  await rm(folder, { recursive: true });
});

/** The library's cache, in the type that llama.cpp stores K and V in by default. */
function libraryCache(config: LlamaConfig, preRopeKeys: boolean): KVCache {
  const { layers, queryHeads, kvHeads, headDim, rope } = config;
  return new KVCache(device, {
    layers,
    queryHeads,
    kvHeads,
    headDim,
    rope,
    dtype: "f16",
    preRopeKeys,
  });
}

const caches: Record<string, (config: LlamaConfig) => AttentionCache> = {
  "a naive float32 cache": (config) => new ReferenceCache(config),
  "KVCache, f16, keys after RoPE": (config) => libraryCache(config, false),
  "KVCache, f16, keys before RoPE": (config) => libraryCache(config, true),
};

/** Logits of one position as logarithms of probabilities. */
function logProbabilities(logits: Float32Array, vocabulary: number, position: number) {
  const row = Float64Array.from(
    logits.subarray(position * vocabulary, (position + 1) * vocabulary),
  );
  const most = row.reduce((a, b) => Math.max(a, b));
  const total = row.reduce((sum, logit) => sum + Math.exp(logit - most), 0);
  return row.map((logit) => logit - most - Math.log(total));
}

/** Largest difference of a log-probability over all tokens worth comparing. */
function difference(
  logits: Float32Array,
  vocabulary: number,
  theirs: readonly Map<number, number>[],
): number {
  let compared = 0;
  let most = 0;
  theirs.forEach((probabilities, position) => {
    const row = logProbabilities(logits, vocabulary, position);
    for (const [token, probability] of probabilities) {
      if (probability < 1e-6) continue; // a probability that small has few digits left
      compared++;
      most = Math.max(most, Math.abs(row[token] - Math.log(probability)));
    }
  });
  expect(compared).toBeGreaterThan(theirs.length);
  return most;
}

const argmax = (values: Float64Array) => values.indexOf(values.reduce((a, b) => Math.max(a, b)));
const likeliest = (probabilities: Map<number, number>) =>
  [...probabilities].reduce((best, entry) => (entry[1] > best[1] ? entry : best))[0];

describe.skipIf(!hasLlamaCpp)("the recall model agrees with llama.cpp", () => {
  const positions = 200;
  const modelPath = fileURLToPath(new URL("../model/recall.gguf", import.meta.url));
  const { text } = needle({ seed: 5, sentences: 20, depth: 0.4 });
  let model: LlamaModel;
  let ids: Int32Array;
  let theirs: Map<number, number>[];

  beforeAll(async () => {
    const file = await readGguf(modelPath);
    model = new LlamaModel(file);
    ids = tokenizerFromGguf(file).encode(text);
    theirs = await llamaCppProbabilities(modelPath, ids.subarray(0, positions));
  });

  it("cuts the text into the same tokens", async () => {
    const [{ ids: theirIds }] = await llamaCppTokens(modelPath, [text]);
    // node-llama-cpp leaves the beginning-of-sequence token to the caller.
    expect(Array.from(ids.subarray(1))).toEqual(theirIds);
  });

  it.each(Object.entries(caches))(
    "on %s: the same first tokens, log-probabilities within 0.02",
    async (_, openCache) => {
      const { vocabulary } = model.config;
      const ours = await model.forward(ids.subarray(0, positions), openCache(model.config), {
        logits: "all",
      });
      expect(theirs).toHaveLength(positions);
      theirs.forEach((probabilities, t) => {
        const first = argmax(logProbabilities(ours, vocabulary, t));
        expect(first, `position ${t}`).toBe(likeliest(probabilities));
      });
      expect(difference(ours, vocabulary, theirs)).toBeLessThan(0.02);
    },
  );
});

/**
 * llama.cpp rounds what it multiplies by a weight to the weight's type (bytes with a scale per 32 for q8_0), the
 * runtime does not: so the distance is that type's. Measured: 0.012, 0.014, 0.075 and 0.29, of logits that are 2 from
 * their mean; float64 loops, which round nothing, are within 4e-5 of the runtime (reference.test.ts).
 */
const bounds: Record<WeightType, number> = { f32: 0.02, f16: 0.03, bf16: 0.12, q8_0: 0.5 };

describe.skipIf(!hasLlamaCpp).each(Object.entries(smallModels))(
  "a generated model agrees with llama.cpp: %s",
  (name, options) => {
    const ids = Int32Array.from({ length: 96 }, (_, i) => (i * 37 + 11) % 250);
    let model: LlamaModel;
    let theirs: Map<number, number>[];

    beforeAll(async () => {
      const path = join(folder, `${name.replaceAll(/\W+/g, "-")}.gguf`);
      await writeFile(path, smallModel(options, bytePairVocabulary("anna banana", 4, "qwen2")));
      model = new LlamaModel(await readGguf(path));
      theirs = await llamaCppProbabilities(path, ids);
    });

    const distance = async (cache: AttentionCache) => {
      const logits = await model.forward(ids, cache, { logits: "all" });
      return difference(logits, model.config.vocabulary, theirs);
    };

    it.each(Object.entries(caches))("on %s", async (_, openCache) => {
      const apart = await distance(openCache(model.config));
      expect(apart).toBeLessThan(bounds[options.weights]);
    });

    it("and would not with another rotation", async () => {
      const { rope } = model.config;
      const otherPairs = rope.style === "norm" ? "neox" : "norm";
      const wrong: RopeConfig =
        rope.scaling.kind === "none"
          ? { ...rope, style: otherPairs }
          : { ...rope, scaling: { kind: "none" } };
      const apart = await distance(new ReferenceCache({ ...model.config, rope: wrong }));
      expect(apart).toBeGreaterThan(5 * bounds[options.weights]);
    });
  },
);
