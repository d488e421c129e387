/** PyramidInfer as the paper has it: the pruner over a KVCache in the example runtime, against float64 loops. */
import { afterAll, beforeAll, describe, expect, it } from "vitest";
import {
  type Device,
  KVCache,
  openDevice,
  type RowPrunerOptions,
  rowPruner,
} from "../../lib/index.ts";
import { LlamaModel, parseGguf } from "../../lib/runtimes/gguf-llama/index.ts";
import { type ReferenceDrop, runReference } from "./reference-model.ts";
import { smallModel } from "./small-model.ts";
import { bytePairVocabulary } from "./small-vocabularies.ts";

const vocabulary = bytePairVocabulary("", 0, "qwen2");
const file = parseGguf(
  smallModel({ architecture: "qwen2", weights: "f32", seed: 31, layers: 5 }, vocabulary),
);
const model = new LlamaModel(file);
const { layers, queryHeads, kvHeads, headDim, rope } = model.config;
const ids = Int32Array.from({ length: 151 }, (_, i) => (i * 53 + 7) % 250);
const prompt = ids.subarray(0, 150);

let device: Device;
beforeAll(async () => {
  device = await openDevice("cpu");
});
afterAll(() => device.dispose());

const openCache = (recordQueries = 64) =>
  new KVCache(device, { layers, queryHeads, kvHeads, headDim, rope, dtype: "f32", recordQueries });

/** The paper's formulas, on the attention of the reference. */
function dropOf(options: Required<RowPrunerOptions>): ReferenceDrop {
  const { decay, interval, recentRatio, distanceWeight, sinks, minContext } = options;
  const recent = Math.ceil(recentRatio * prompt.length);
  return (layer, { tokens, shares }) => {
    const context = tokens.length - recent;
    if (layer % interval !== 0 || layer === layers - 1 || context <= minContext) return [];
    const rho = decay + (1 - decay) * ((Math.cos((Math.PI * layer) / layers) + 1) / 2);
    const score = tokens.map((_, k) =>
      shares.slice(-recent).reduce((sum, row, q) => {
        const weight = 1 + ((distanceWeight - 1) * q) / (recent - 1);
        return sum + weight * (row[k] ?? 0);
      }, 0),
    );
    for (let k = 0; k < sinks; k++) score[k] = Infinity;
    const best = Array.from({ length: context }, (_, k) => k).sort((a, b) => score[b] - score[a]);
    return best.slice(Math.floor(context * rho)).map((k) => tokens[k]);
  };
}

describe("rows of the residual stream are dropped between layers", () => {
  const cases: RowPrunerOptions[] = [
    { decay: 0.5 },
    { decay: 0.7, interval: 2, recentRatio: 0.1, distanceWeight: 3, sinks: 0 },
    { decay: 0.3, minContext: 20 },
  ];
  it.each(cases)("as the formulas say: %j", async (options) => {
    const full = {
      decay: 0.9,
      interval: 1,
      recentRatio: 0.2,
      distanceWeight: 1.2,
      sinks: 4,
      minContext: 64,
      ...options,
    };
    using cache = openCache();
    const prune = rowPruner(cache, options);
    const logits = await model.forward(prompt, cache, { logits: "last", prune });
    const reference = runReference(file, model.config, prompt, dropOf(full));
    expect(cache.layers.map((layer) => layer.slots)).toEqual(
      reference.streams.map((stream) => Array(kvHeads).fill(stream.size)),
    );
    expect(reference.streams[4].size).toBeLessThan(140);
    const expected = reference.logits.get(149)!;
    const worst = logits.reduce((most, x, i) => Math.max(most, Math.abs(x - expected[i])), 0);
    expect(worst).toBeLessThan(1e-4);
  });

  it("and the next token finds its place in every layer", async () => {
    using cache = openCache();
    const prune = rowPruner(cache, { decay: 0.5 });
    await model.forward(prompt, cache, { logits: "last", prune });
    const logits = await model.forward(ids.subarray(150), cache, { logits: "last" });
    const first: number[][] = [];
    const drop = dropOf({
      decay: 0.5,
      interval: 1,
      recentRatio: 0.2,
      distanceWeight: 1.2,
      sinks: 4,
      minContext: 64,
    });
    runReference(file, model.config, prompt, (layer, attention) => {
      first[layer] = [...drop(layer, attention)];
      return first[layer];
    });
    const reference = runReference(file, model.config, ids, (layer) => first[layer]);
    expect(reference.tokens.length).toBeLessThan(120);
    const expected = reference.logits.get(150)!;
    const worst = logits.reduce((most, x, i) => Math.max(most, Math.abs(x - expected[i])), 0);
    expect(worst).toBeLessThan(1e-4);
  });

  it("only where there are enough of them", async () => {
    using cache = openCache();
    const prune = rowPruner(cache, { decay: 0.1 });
    await model.forward(prompt.subarray(0, 80), cache, { logits: "last", prune });
    expect(cache.layers.map((layer) => layer.slots[0])).toEqual(Array(layers).fill(80));
  });
});

describe("the pruner is refused", () => {
  it("with options out of range", () => {
    using cache = openCache();
    expect(() => rowPruner(cache, { minContext: -1 })).toThrow("0 or more for minContext");
    expect(() => rowPruner(cache, { decay: 0 })).toThrow("(0, 1] for decay");
    expect(() => rowPruner(cache, { sinks: -1 })).toThrow("sinks");
  });

  it("on a cache that did not record the recent queries", async () => {
    using cache = openCache(8);
    const prune = rowPruner(cache, { decay: 0.5 });
    await expect(model.forward(prompt, cache, { logits: "last", prune })).rejects.toThrow(
      "expected the queries of the last 30 tokens",
    );
  });

  it("on a layer that does not hold its rows", async () => {
    using cache = openCache();
    await expect(rowPruner(cache)(0, Int32Array.of(0, 1))).rejects.toThrow(
      "expected 2 rows or more in every head for layer 0",
    );
  });
});
