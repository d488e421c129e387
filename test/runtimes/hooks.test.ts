/** What the runtime does between layers, on small models and the reference cache. */
import { describe, expect, it } from "vitest";
import {
  type AttentionCache,
  type AttentionLayer,
  type ForwardOptions,
  LlamaModel,
  parseGguf,
  type Prune,
} from "../../lib/runtimes/gguf-llama/index.ts";
import { ReferenceCache } from "./reference-cache.ts";
import { type ReferencePass, runReference } from "./reference-model.ts";
import { smallModel } from "./small-model.ts";
import { bytePairVocabulary } from "./small-vocabularies.ts";

const file = parseGguf(
  smallModel(
    { architecture: "qwen3", weights: "f32", seed: 21 },
    bytePairVocabulary("", 0, "qwen2"),
  ),
);
const model = new LlamaModel(file);
const { layers, width, vocabulary } = model.config;
const idsOf = (length: number) => Int32Array.from({ length }, (_, i) => (i * 53 + 7) % 250);
/** Longer than a chunk of the runtime's. */
const long = idsOf(300);

/** A reference cache whose layers are changed. */
function cacheWith(
  change: (layer: AttentionLayer, index: number) => Partial<AttentionLayer>,
  inner = new ReferenceCache(model.config),
): AttentionCache {
  return {
    layers: inner.layers.map((layer, index) => ({
      append: (k, v, n) => layer.append(k, v, n),
      attend: (q, out, n) => layer.attend(q, out, n),
      ...change(layer, index),
    })),
  };
}

const worst = (actual: ArrayLike<number>, expected: ArrayLike<number>) =>
  Array.from(actual).reduce((most, x, i) => Math.max(most, Math.abs(x - expected[i])), 0);

describe("layer by layer", () => {
  it("gives the bits that chunk by chunk gives", async () => {
    const chunked = await model.forward(long, new ReferenceCache(model.config), { logits: "all" });
    const order: string[] = [];
    const cache = cacheWith((layer, index) => ({
      append: (k, v, n) => {
        order.push(`append ${index}`);
        layer.append(k, v, n);
      },
      compress: async () => order.push(`compress ${index}`),
    }));
    const options: ForwardOptions = { logits: "all", compressLayers: true };
    expect(await model.forward(long, cache, options)).toEqual(chunked);
    const layer = (i: number) => [`append ${i}`, `append ${i}`, `compress ${i}`];
    expect(order).toEqual([...layer(0), ...layer(1), ...layer(2)]);
  });

  it("leaves a compressed layer to the tokens that come after", async () => {
    const inner = new ReferenceCache(model.config);
    const cache = cacheWith(
      (_, index) => ({ compress: async () => inner.layers[index].keepRecent(20 + index) }),
      inner,
    );
    await model.forward(long, cache, { logits: "last", compressLayers: true });
    expect(inner.layers.map((layer) => layer.slots)).toEqual([20, 21, 22]);
    const plain = new ReferenceCache(model.config);
    await model.forward(long, plain, { logits: "last" });
    plain.layers.forEach((layer, index) => {
      layer.keepRecent(20 + index);
    });
    const next = Int32Array.of(5);
    expect(await model.forward(next, cache, { logits: "last" })).toEqual(
      await model.forward(next, plain, { logits: "last" }),
    );
  });

  it("is refused before any work on a cache whose layers cannot compress", async () => {
    const inner = new ReferenceCache(model.config);
    const cache = cacheWith((_, i) => (i === 1 ? {} : { compress: async () => {} }), inner);
    const options: ForwardOptions = { logits: "last", compressLayers: true };
    await expect(model.forward(long, cache, options)).rejects.toThrow(
      "expected a cache with compress for compressLayers, got none in layer 1",
    );
    expect(inner.layers[0].slots).toBe(0);
  });
});

describe("observe", () => {
  const reference = runReference(file, model.config, idsOf(40));

  it.each([false, true])("gets the stream around attention, layer by layer %s", async (byLayer) => {
    const seen = Array.from({ length: layers }, () => ({ before: [], after: [] }) as Streams);
    interface Streams {
      before: number[];
      after: number[];
    }
    const cache = cacheWith((_, index) => ({
      compress: async () => {},
      observe: async (before, after, tokens) => {
        expect(before).toHaveLength(tokens * width);
        await new Promise((resolve) => setImmediate(resolve)); // the arrays stay as they are until then
        seen[index].before.push(...before);
        seen[index].after.push(...after);
      },
    }));
    await model.forward(idsOf(40), cache, { logits: "last", compressLayers: byLayer });
    seen.forEach(({ before, after }, layer) => {
      const rows = [...reference.streams[layer].values()];
      expect(before).toHaveLength(40 * width);
      expect(
        worst(
          before,
          rows.flatMap((row) => [...row.before]),
        ),
      ).toBeLessThan(1e-4);
      expect(
        worst(
          after,
          rows.flatMap((row) => [...row.after]),
        ),
      ).toBeLessThan(1e-4);
      expect(worst(before, after)).toBeGreaterThan(1);
    });
  });

  it("gets a long prompt in pieces that add up", async () => {
    const counts: number[] = [];
    const cache = cacheWith((_, index) =>
      index === 2 ? { observe: (_before, _after, tokens) => void counts.push(tokens) } : {},
    );
    await model.forward(long, cache, { logits: "last" });
    expect(counts).toEqual([256, 44]);
  });
});

describe("prune", () => {
  /** Drops these tokens behind each layer. */
  const dropping =
    (drop: readonly (readonly number[])[]): Prune =>
    (layer, tokens) =>
      Int32Array.from(
        [...tokens.keys()].filter((row) => drop[layer]?.includes(tokens[row]) !== true),
      );
  const withSkip = () => {
    const inner = new ReferenceCache(model.config);
    return { inner, cache: cacheWith((layer) => ({ skip: (n) => layer.skip?.(n) }), inner) };
  };

  it.each([
    ["null", () => null],
    ["every row", dropping([])],
  ])("of nothing (%s) changes no bit", async (_, prune) => {
    const plain = await model.forward(long, new ReferenceCache(model.config), { logits: "last" });
    expect(await model.forward(long, withSkip().cache, { logits: "last", prune })).toEqual(plain);
  });

  it.each([
    [
      "single tokens, the first and the last but one",
      [
        [0, 3, 4, 38],
        [1, 20, 21, 22, 30],
      ],
    ],
    ["all but the last", [[], Array.from({ length: 39 }, (_, i) => i)]],
    ["only behind the first layer", [[5, 6, 7, 8, 9, 10]]],
  ])("gives what float64 loops give without the tokens: %s", async (_, drop) => {
    const ids = idsOf(40);
    const asked: (readonly number[])[] = [];
    const prune: Prune = (layer, tokens) => {
      asked.push([layer, tokens.length]);
      return dropping(drop)(layer, tokens);
    };
    const { inner, cache } = withSkip();
    const logits = await model.forward(ids, cache, { logits: "last", prune });
    const reference = runReference(file, model.config, ids, (layer) => drop[layer] ?? []);
    const error = (pass: ReferencePass) => worst(logits, pass.logits.get(39) ?? []);
    expect(error(reference)).toBeLessThan(1e-4);
    expect(error(runReference(file, model.config, ids))).toBeGreaterThan(0.01);
    const left = (layer: number) => reference.streams[layer].size;
    expect(inner.layers.map((layer) => layer.slots)).toEqual([40, left(1), left(2)]);
    expect(asked).toEqual([
      [0, 40],
      [1, left(1)],
    ]);
  });

  it("goes on at the right positions, in layers that miss tokens too", async () => {
    const ids = idsOf(41);
    const drop = [
      [2, 3, 30],
      [0, 11],
    ];
    const { cache } = withSkip();
    await model.forward(ids.subarray(0, 40), cache, { logits: "last", prune: dropping(drop) });
    const next = await model.forward(ids.subarray(40), cache, { logits: "last" });
    const reference = runReference(file, model.config, ids, (layer) => drop[layer] ?? []);
    expect(worst(next, reference.logits.get(40) ?? [])).toBeLessThan(1e-4);
    expect(next).toHaveLength(vocabulary);
  });

  it("keeps to chunks when many tokens go", async () => {
    const odd = Array.from({ length: 150 }, (_, i) => 2 * i); // 299 is the last token
    const { inner, cache } = withSkip();
    const prune = dropping([odd]);
    const logits = await model.forward(long, cache, { logits: "last", prune });
    expect(inner.layers.map((layer) => layer.slots)).toEqual([300, 150, 150]);
    const reference = runReference(file, model.config, long, (layer) => (layer === 0 ? odd : []));
    expect(worst(logits, reference.logits.get(299) ?? [])).toBeLessThan(1e-4);
  });

  it("comes before the layer is compressed", async () => {
    const order: string[] = [];
    const cache = cacheWith((layer, i) => ({
      skip: (n) => layer.skip?.(n),
      compress: async () => order.push(`compress ${i}`),
    }));
    const prune: Prune = (layer) => {
      order.push(`prune ${layer}`);
      return null;
    };
    await model.forward(idsOf(5), cache, { logits: "last", prune, compressLayers: true });
    expect(order).toEqual(["prune 0", "compress 0", "prune 1", "compress 1", "compress 2"]);
  });

  it("is refused with all logits, without skip, and with rows that are none", async () => {
    const run = (prune: Prune, cache: AttentionCache, logits: "last" | "all" = "last") =>
      model.forward(idsOf(8), cache, { logits, prune });
    await expect(run(() => null, withSkip().cache, "all")).rejects.toThrow('logits "last"');
    await expect(
      run(
        () => null,
        cacheWith(() => ({})),
      ),
    ).rejects.toThrow("got none in layer 0");
    for (const rows of [[], [0, 1], [0, 8], [3, 3, 7], [-1, 7], [6, 5, 7]]) {
      await expect(run(() => Int32Array.from(rows), withSkip().cache)).rejects.toThrow(
        "expected ascending rows of 0 to 7, the last one among them, from prune after layer 0",
      );
    }
  });
});

describe("maintain", () => {
  it("is called and awaited once at the end of each pass", async () => {
    const order: string[] = [];
    const inner = new ReferenceCache(model.config);
    const cache: AttentionCache = {
      layers: inner.layers,
      maintain: async () => {
        await new Promise((resolve) => setImmediate(resolve));
        order.push(`${inner.layers[layers - 1].slots}`);
      },
    };
    await model.forward(long, cache, { logits: "last" });
    await model.forward(idsOf(1), cache, { logits: "last" });
    expect(order).toEqual(["300", "301"]);
  });
});
