/**
 * The example runtime against llama.cpp (through node-llama-cpp) on the same GGUF file and text.
 * Skipped, and it says so, where node-llama-cpp is not installed: it is a dev-only dependency.
 */
import { fileURLToPath } from "node:url";
import { afterAll, beforeAll, describe, expect, it } from "vitest";
import { needle } from "../../lib/eval/index.ts";
import { type Device, KVCache, openDevice } from "../../lib/index.ts";
import {
  type AttentionCache,
  type LlamaConfig,
  LlamaModel,
  readGguf,
  tokenizerFromGguf,
} from "../../lib/runtimes/gguf-llama/index.ts";
import { llamaCppUrl } from "../cross-check/llama-cpp.ts";
import { ReferenceCache } from "./reference-cache.ts";

/** The part of node-llama-cpp used here, so that type checking does not need the package. */
interface Peer {
  getLlama(options: { gpu: false; build: "never"; logLevel: string }): Promise<PeerLlama>;
}
interface PeerLlama {
  loadModel(options: { modelPath: string }): Promise<PeerModel>;
}
interface PeerModel {
  tokenize(text: string): number[];
  createContext(options: { contextSize: number }): Promise<{ getSequence(): PeerSequence }>;
  dispose(): Promise<void>;
}
interface PeerSequence {
  controlledEvaluate(
    input: [number, { generateNext: { probabilities: true } }][],
  ): Promise<{ next: { probabilities: Map<number, number> } }[]>;
}

const positions = 200;
const modelPath = fileURLToPath(new URL("../model/recall.gguf", import.meta.url));
const url = llamaCppUrl();
const peer: Peer | null = url === undefined ? null : await import(url);
if (peer === null) {
  console.warn("llama-cpp.test: skipped, node-llama-cpp is not installed in test/cross-check");
}

let device: Device;
beforeAll(async () => {
  device = await openDevice("cpu");
});
afterAll(() => device.dispose());

/** The library's cache, in the type that llama.cpp stores K and V in by default. */
function libraryCache(config: LlamaConfig, preRopeKeys: boolean): KVCache {
  return new KVCache(device, {
    layers: config.layers,
    queryHeads: config.queryHeads,
    kvHeads: config.kvHeads,
    headDim: config.headDim,
    dtype: "f16",
    rope: config.rope,
    preRopeKeys,
  });
}

const caches: Record<string, (config: LlamaConfig) => AttentionCache> = {
  "a naive float32 cache": (config) => new ReferenceCache(config),
  "KVCache, f16, keys after RoPE": (config) => libraryCache(config, false),
  "KVCache, f16, keys before RoPE": (config) => libraryCache(config, true),
};

describe.skipIf(peer === null).each(Object.entries(caches))(
  "gguf-llama agrees with llama.cpp on %s",
  (_, openCache) => {
    const { text } = needle({ seed: 5, sentences: 20, depth: 0.4 });
    let ours: Float32Array;
    let ids: Int32Array;
    let theirs: Map<number, number>[];
    let theirIds: number[];
    let vocabulary: number;

    beforeAll(async () => {
      const file = await readGguf(modelPath);
      const model = new LlamaModel(file);
      ids = tokenizerFromGguf(file).encode(text);
      vocabulary = model.config.vocabulary;
      const cache = openCache(model.config);
      ours = await model.forward(ids.subarray(0, positions), cache, { logits: "all" });

      const llama = await (peer as Peer).getLlama({
        gpu: false,
        build: "never",
        logLevel: "error",
      });
      const peerModel = await llama.loadModel({ modelPath });
      theirIds = peerModel.tokenize(text);
      const sequence = (await peerModel.createContext({ contextSize: 256 })).getSequence();
      const results = await sequence.controlledEvaluate(
        Array.from(ids.subarray(0, positions), (id) => [
          id,
          { generateNext: { probabilities: true } },
        ]),
      );
      theirs = results.map(({ next }) => next.probabilities);
      await peerModel.dispose();
    });

    it("cuts the text into the same tokens", () => {
      // node-llama-cpp leaves the beginning-of-sequence token to the caller.
      expect(Array.from(ids.subarray(1))).toEqual(theirIds);
    });

    it(`puts the same token first at ${positions} positions`, () => {
      expect(theirs).toHaveLength(positions);
      for (let t = 0; t < positions; t++) {
        expect(argmax(logProbabilities(t)), `position ${t}`).toBe(largest(theirs[t]));
      }
    });

    it("gives tokens the same log-probability within 0.02", () => {
      let compared = 0;
      for (let t = 0; t < positions; t++) {
        const row = logProbabilities(t);
        for (const [token, probability] of theirs[t]) {
          if (probability < 1e-6) continue; // a probability that small has few digits left
          compared++;
          expect(Math.abs(row[token] - Math.log(probability)), `position ${t}`).toBeLessThan(0.02);
        }
      }
      expect(compared).toBeGreaterThan(positions);
    });

    function logProbabilities(position: number): Float64Array {
      const row = Float64Array.from(
        ours.subarray(position * vocabulary, (position + 1) * vocabulary),
      );
      const most = row.reduce((a, b) => Math.max(a, b));
      const total = row.reduce((sum, logit) => sum + Math.exp(logit - most), 0);
      return row.map((logit) => logit - most - Math.log(total));
    }
  },
);

function argmax(values: Float64Array): number {
  return values.indexOf(values.reduce((a, b) => Math.max(a, b)));
}

function largest(probabilities: Map<number, number>): number {
  return [...probabilities].reduce((best, entry) => (entry[1] > best[1] ? entry : best))[0];
}
