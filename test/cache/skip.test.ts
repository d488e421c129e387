// Positions without slots: a layer that sees only some tokens of a prompt attends as if the others were masked.
import { expect, it } from "vitest";
import { KVCache, type Method, snapKV, streamingLLM } from "../../lib/index.ts";
import { storeAddon } from "../../lib/cache/native-store.ts";
import { describeOp } from "../harness/backends.ts";
import { ask, codeOf, contentsOf, feed, filledCache, makePrompt } from "./fixtures.ts";
import { compareAttention, denseValues } from "./reference.ts";

const rope = { theta: 10_000, style: "neox" } as const;
const shape = { layers: 1, queryHeads: 4, kvHeads: 2, headDim: 16, dtype: "f16" } as const;
const layer = 0;

/** Tokens [from, to) that reach the layer, in order; those between are skipped. */
type Parts = readonly (readonly [number, number])[];

const tokensOf = (parts: Parts): number[] =>
  parts.flatMap(([from, to]) => Array.from({ length: to - from }, (_, i) => from + i));

/** Skips to a part and appends it. */
async function feedPart(
  cache: KVCache,
  prompt: ReturnType<typeof makePrompt>,
  [from, to]: readonly [number, number],
): Promise<void> {
  storeAddon().storeSkip(cache, layer, from - cache.tokens);
  await feed(cache, prompt, { from, to });
}

const isArgumentError = (param: string) =>
  expect.objectContaining({ code: "ERR_SPINDLEKV_ARGUMENT", op: "skip", param });

describeOp("skipped positions hold no slots", (_backend, device) => {
  const parts: Parts = [
    [2, 7],
    [9, 10],
    [14, 23],
  ];
  const prompt = makePrompt(shape, 24);

  for (const preRopeKeys of [false, true]) {
    it(`attention turns and hides by the positions that are left, preRopeKeys ${preRopeKeys}`, async () => {
      using cache = new KVCache(device, { ...shape, rope, preRopeKeys, pageSlots: 4 });
      for (const part of parts) {
        await feedPart(cache, prompt, part);
        const [from, to] = part;
        const [out] = await ask(cache, prompt, from, to);
        const kept = tokensOf(parts).filter((token) => token < to);
        const options = { layer, from, to, rope, isRotated: !preRopeKeys, kept: () => kept };
        compareAttention(`tokens ${from}..${to}`, out, denseValues(prompt, options), "f16");
      }
      for (const head of [0, 1]) {
        const positions = await storeAddon().storePositions(cache, { layer, head });
        expect(positions).toEqual(Int32Array.from(tokensOf(parts)));
      }
      expect(cache.tokens).toBe(23);
      expect(cache.layers[layer].slots).toEqual([15, 15]);
    });
  }

  it("re-indexed keys turn by their slot, whatever their position", async () => {
    const method = streamingLLM({ tokens: 12, sinks: 2 });
    using cache = new KVCache(device, { ...shape, rope, method, pageSlots: 4 });
    using dense = new KVCache(device, { ...shape, rope, method, pageSlots: 4 });
    const { k, v, q } = prompt.layers[layer];
    for (const each of [cache, dense]) {
      if (each === cache) storeAddon().storeSkip(cache, layer, 5);
      each.layers[layer].append(k.subarray(0, 2 * 24 * 16), v.subarray(0, 2 * 24 * 16), 24);
    }
    const outputs = [cache, dense].map((each) => {
      const out = new Float32Array(q.length);
      return each.layers[layer].attend(q, out, 24) ?? out;
    });
    const [got, expected] = await Promise.all([outputs[0], outputs[1]]);
    expect(got).toEqual(expected);
  });

  it("queries may not reach back over a gap", async () => {
    using cache = new KVCache(device, { ...shape, rope });
    for (const part of parts) await feedPart(cache, prompt, part);
    const before = await contentsOf(cache);
    await expect(ask(cache, prompt, 13, 23)).rejects.toEqual(
      expect.objectContaining({
        code: "ERR_SPINDLEKV_ARGUMENT",
        op: "attend",
        param: "queries",
        actual: "10",
      }),
    );
    storeAddon().storeSkip(cache, layer, 1);
    await expect(ask(cache, prompt, 23, 24)).rejects.toEqual(
      expect.objectContaining({ code: "ERR_SPINDLEKV_ARGUMENT", param: "queries" }),
    );
    expect(await contentsOf(cache)).not.toBe(before);
  });

  it("no tokens are no gap", async () => {
    using cache = await filledCache(device, prompt);
    const before = await contentsOf(cache);
    storeAddon().storeSkip(cache, layer, 0);
    expect(await contentsOf(cache)).toBe(before);
    await ask(cache, prompt, 0, 24);
  });

  it("a fork has its own gaps", async () => {
    using cache = await filledCache(device, makePrompt(shape, 6));
    using fork = cache.fork();
    storeAddon().storeSkip(fork, layer, 3);
    await feed(fork, prompt, { from: 9, to: 12 });
    await feed(cache, prompt, { from: 6, to: 12 });
    const positionsOf = (each: KVCache) => storeAddon().storePositions(each, { layer, head: 1 });
    expect(await positionsOf(fork)).toEqual(Int32Array.from([0, 1, 2, 3, 4, 5, 9, 10, 11]));
    expect(await positionsOf(cache)).toEqual(Int32Array.from({ length: 12 }, (_, i) => i));
    await ask(cache, prompt, 0, 12);
  });

  it("the window of a method is the tokens since the last gap", async () => {
    const method: Method = snapKV({ tokens: 8, window: 4 });
    using cache = new KVCache(device, { ...shape, method, rope });
    for (const part of parts) {
      await feedPart(cache, prompt, part);
      await ask(cache, prompt, part[0], part[1]);
    }
    const report = await cache.compress();
    expect(report.hasEvicted).toBe(true);
    const positions = await storeAddon().storePositions(cache, { layer, head: 0 });
    expect(positions).toHaveLength(8);
    expect(Array.from(positions.slice(-4))).toEqual([19, 20, 21, 22]);
    expect(tokensOf(parts)).toEqual(expect.arrayContaining(Array.from(positions)));

    using behind = new KVCache(device, { ...shape, method, rope });
    await feedPart(behind, prompt, [0, 10]);
    await ask(behind, prompt, 0, 10);
    await feedPart(behind, prompt, [11, 13]);
    await ask(behind, prompt, 11, 13);
    expect(await codeOf(behind.compress())).toBe("ERR_SPINDLEKV_MISSING_INPUT");
  });
});

describeOp("skip and positions refuse", (_backend, device) => {
  it("numbers of tokens that are none, and positions beyond int32", async () => {
    using cache = await filledCache(device, makePrompt(shape, 3));
    const skip = (at: unknown, tokens: unknown) =>
      storeAddon().storeSkip(cache, at as number, tokens as number);
    const before = await contentsOf(cache);
    for (const tokens of [-1, 0.5, Number.NaN, 2 ** 31, "3", undefined]) {
      expect(() => skip(layer, tokens), String(tokens)).toThrow(isArgumentError("tokens"));
    }
    expect(() => skip(layer, 2 ** 31 - 3)).toThrow(isArgumentError("tokens"));
    for (const at of [-1, 1, 0.5]) {
      expect(() => skip(at, 1), String(at)).toThrow(isArgumentError("layer"));
    }
    expect(await contentsOf(cache)).toBe(before);
    skip(layer, 2 ** 31 - 4);
    expect(cache.tokens).toBe(2 ** 31 - 1);
    const row = new Float32Array(2 * 16);
    expect(() => cache.layers[layer].append(row, row)).toThrow(
      expect.objectContaining({ code: "ERR_SPINDLEKV_ARGUMENT", op: "append", param: "tokens" }),
    );
  });

  it("a cache that is being read, a disposed one, and heads that are not there", async () => {
    const cache = await filledCache(device, makePrompt(shape, 3));
    const reading = cache.snapshot();
    expect(() => storeAddon().storeSkip(cache, layer, 1)).toThrow(
      expect.objectContaining({ code: "ERR_SPINDLEKV_BUSY" }),
    );
    await reading;
    const positionsOf = async (options: { layer: number; head: number }) =>
      storeAddon().storePositions(cache, options);
    await expect(positionsOf({ layer: 1, head: 0 })).rejects.toEqual(
      expect.objectContaining({ code: "ERR_SPINDLEKV_ARGUMENT", param: "layer" }),
    );
    await expect(positionsOf({ layer, head: 2 })).rejects.toEqual(
      expect.objectContaining({ code: "ERR_SPINDLEKV_ARGUMENT", param: "head" }),
    );
    cache.dispose();
    expect(() => storeAddon().storeSkip(cache, layer, 1)).toThrow(
      expect.objectContaining({ code: "ERR_SPINDLEKV_DISPOSED" }),
    );
    expect(await codeOf(positionsOf({ layer, head: 0 }))).toBe("ERR_SPINDLEKV_DISPOSED");
  });

  it("an empty head has no positions", async () => {
    using cache = new KVCache(device, shape);
    expect(await storeAddon().storePositions(cache, { layer, head: 0 })).toEqual(new Int32Array(0));
  });
});
