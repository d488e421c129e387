// attendBatch over layers: one call for the caches of many sequences.
import { expect, it } from "vitest";
import {
  attendBatch,
  attendBatchAsync,
  KVCache,
  type KVCacheOptions,
  type LayerItem,
  openDevice,
  PagePool,
  readStoredSlots,
  snapKV,
  spindleKV,
  streamingLLM,
  Tensor,
} from "../../lib/index.ts";
import { describeOp } from "../harness/backends.ts";
import { codeOf, contentsOf, feed, makePrompt, type Prompt, sliceTokens } from "./fixtures.ts";
import { compareAttention, storedValues } from "./reference.ts";

const rope = { theta: 10_000, style: "neox" } as const;
const shape = { layers: 2, queryHeads: 4, kvHeads: 2, headDim: 16, dtype: "f16" } as const;

interface Sequence {
  readonly cache: KVCache;
  readonly prompt: Prompt;
  /** Tokens in the cache. */
  readonly tokens: number;
}

/** The next `count` tokens of a sequence at a layer. */
function itemOf({ cache, prompt, tokens }: Sequence, layer: number, count: number): LayerItem {
  const { k, v, q } = prompt.layers[layer];
  const rows = (all: Float32Array, heads: number) =>
    sliceTokens(all, heads, shape.headDim, tokens, tokens + count);
  const queries = rows(q, shape.queryHeads);
  return {
    layer: cache.layers[layer],
    k: rows(k, shape.kvHeads),
    v: rows(v, shape.kvHeads),
    q: queries,
    out: new Float32Array(queries.length),
  };
}

async function checkAgainstStored(
  { cache, prompt, tokens }: Sequence,
  layer: number,
  count: number,
  item: LayerItem,
): Promise<void> {
  const slots = await Promise.all([0, 1].map((head) => readStoredSlots(cache, layer, head)));
  const values = storedValues(prompt, slots, {
    layer,
    from: tokens,
    to: tokens + count,
    rope,
    reindex: cache.method.positions === "reindexed",
  });
  compareAttention(cache.method.id, item.out as Float32Array, values, "f16");
}

describeOp("attendBatch over layers", (backend, device) => {
  const isSlow = backend === "simt";
  const length = isSlow ? 9 : 70;
  const pageSlots = isSlow ? 4 : 16;
  const options = { ...shape, rope, preRopeKeys: true, pageSlots } satisfies KVCacheOptions;

  /** Sequences of different lengths and methods; those with a codebook or dropped slots are compressed. */
  const makeSequences = async (on = device, pool?: PagePool): Promise<Sequence[]> => {
    const methods = [
      undefined,
      snapKV({ tokens: 5, window: 2, group: "unfold", visibility: "head" }),
      streamingLLM({ tokens: length - 4, sinks: 2 }),
      ...(isSlow ? [] : [spindleKV({ tokens: length, window: 2, insertInterval: 2 })]),
    ];
    return Promise.all(
      methods.map(async (method, i) => {
        const tokens = length - i;
        const prompt = makePrompt(shape, length + 8, { seed: 10 + i, clusters: [4, 4] });
        const cache = new KVCache(on, {
          ...options,
          ...(method === undefined ? {} : { method }),
          ...(pool === undefined ? {} : { pool }),
        });
        await feed(cache, prompt, { to: tokens, attended: 4 });
        if (method !== undefined && method.schedule !== "every-step") await cache.compress();
        return { cache, prompt, tokens };
      }),
    );
  };
  const disposeAll = (sequences: readonly Sequence[]) => {
    for (const { cache } of sequences) cache.dispose();
  };
  const contentsOfAll = (sequences: readonly Sequence[]) =>
    Promise.all(sequences.map(({ cache }) => contentsOf(cache)));

  it("serves lengths, methods and segment kinds together", async () => {
    const sequences = await makeSequences();
    const apart = sequences.map((sequence) => ({ ...sequence, cache: sequence.cache.fork() }));
    for (const isAsync of [false, true]) {
      for (let layer = 0; layer < shape.layers; layer++) {
        const counts = sequences.map((_, i) => (i === 0 ? 1 : 2)); // different numbers of queries too
        const together = sequences.map((sequence) => ({
          cache: sequence.cache.fork(),
          prompt: sequence.prompt,
          tokens: sequence.tokens,
        }));
        const items = together.map((sequence, i) => itemOf(sequence, layer, counts[i]));
        if (isAsync) await attendBatchAsync({ items });
        else await attendBatch({ items });
        for (const [i, sequence] of together.entries()) {
          await checkAgainstStored(sequence, layer, counts[i], items[i]);
          using single = apart[i].cache.fork();
          const item = itemOf({ ...apart[i], cache: single }, layer, counts[i]);
          item.layer.append(item.k!, item.v!, counts[i]);
          expect(await contentsOf(sequence.cache), sequence.cache.method.id).not.toBe(
            await contentsOf(sequences[i].cache),
          );
          await item.layer.attend(item.q, item.out, counts[i]);
          expect(await contentsOf(sequence.cache)).toBe(await contentsOf(single));
        }
        disposeAll(together);
      }
    }
    disposeAll(apart);
    disposeAll(sequences);
  });

  it("attends only where no keys are given, and takes tensors", async () => {
    const sequences = await makeSequences();
    const before = await contentsOfAll(sequences);
    const outs = sequences.map(() => Tensor.zeros(device, "f32", [4, 1, 16]));
    const asked = sequences.map(({ cache, prompt, tokens }, i) => {
      const q = sliceTokens(prompt.layers[0].q, 4, 16, tokens - 1, tokens);
      return { layer: cache.layers[0], q: Tensor.from(device, "f32", [4, 1, 16], q), out: outs[i] };
    });
    attendBatch({ items: asked });
    for (const [i, { cache, prompt, tokens }] of sequences.entries()) {
      const item = { ...asked[i], out: (await outs[i].read()) as Float32Array };
      await checkAgainstStored({ cache, prompt, tokens: tokens - 1 }, 0, 1, item);
    }
    // The queries were recorded; the slots are as before.
    expect((await contentsOfAll(sequences)).length).toBe(before.length);
    for (const { q, out } of asked) {
      q.dispose();
      out.dispose();
    }
    disposeAll(sequences);
  });

  it("forks keep their prefix in pages that are shared to the last one", async () => {
    using pool = new PagePool(device);
    const prefix = pageSlots * 2 + pageSlots / 2 + 1; // the last page is more than half full
    const prompt = makePrompt(shape, prefix + 4, { seed: 3 });
    using cache = new KVCache(device, { ...options, pool });
    await feed(cache, prompt, { to: prefix });
    const alone = pool.stats().bytesUsed;
    const forks = Array.from({ length: 3 }, () => cache.fork());
    const sequences = forks.map((fork) => ({ cache: fork, prompt, tokens: prefix }));
    for (let layer = 0; layer < shape.layers; layer++) {
      const items = sequences.map((sequence) => itemOf(sequence, layer, 1));
      await attendBatch({ items });
      for (const [i, item] of items.entries()) {
        await checkAgainstStored(sequences[i], layer, 1, item);
      }
    }
    // Every fork has one page of its own a head, behind all pages of the prefix: two that filled at once and the last.
    using small = new KVCache(device, options);
    await feed(small, prompt, { to: 1 });
    const page = small.stats().bytes.total;
    for (const fork of forks) {
      expect(fork.stats().bytes.total).toBe(alone + page);
      expect(fork.stats().perLayer[0].heads[0]).toMatchObject({ segments: 3, slots: prefix + 1 });
      expect((fork.layers[0] as { slots: number[] }).slots).toEqual([prefix + 1, prefix + 1]);
    }
    expect(pool.stats().bytesUsed).toBe(alone + 3 * page);
    // The source goes on behind its prefix too.
    await feed(cache, prompt, { from: prefix });
    expect(cache.stats().perLayer[0].heads[0].segments).toBe(3);
    for (const fork of forks) fork.dispose();
  });

  it("copies a shared page that is less than half full instead", async () => {
    using pool = new PagePool(device);
    const prefix = pageSlots + 1;
    const prompt = makePrompt(shape, prefix + 2, { seed: 4 });
    using cache = new KVCache(device, { ...options, pool });
    await feed(cache, prompt, { to: prefix });
    const page = pool.stats().bytesUsed / 2;
    using fork = cache.fork();
    await feed(fork, prompt, { from: prefix });
    expect(fork.stats().perLayer[0].heads[0].segments).toBe(2);
    expect(pool.stats().bytesUsed).toBe(3 * page);
  });

  it("out of memory at each allocation in turn changes no cache", async () => {
    using own = await openDevice(backend);
    using pool = new PagePool(own, { slabBytes: 256 });
    const bases = await makeSequences(own, pool);
    const sequences = bases.map((base) => ({ ...base, cache: base.cache.fork() }));
    const items = sequences.map((sequence) => itemOf(sequence, 1, 2));
    const before = await contentsOfAll(sequences);
    const used = pool.stats().bytesUsed;
    let failed = 0;
    for (let n = 1; ; n++) {
      own.failAllocation(n);
      const code = await codeOf((async () => attendBatch({ items }))());
      own.failAllocation(0);
      if (code === "resolved") break;
      expect(code, `allocation ${n}`).toBe("ERR_SPINDLEKV_OUT_OF_MEMORY");
      expect(await contentsOfAll(sequences), `allocation ${n}`).toEqual(before);
      expect(pool.stats().bytesUsed).toBe(used);
      failed += 1;
    }
    expect(failed).toBeGreaterThan(5);
    for (const [i, sequence] of sequences.entries()) {
      await checkAgainstStored(sequence, 1, 2, items[i]);
    }
    disposeAll(sequences);
    disposeAll(bases);
  });

  it("one bad item leaves all caches as they were", async () => {
    const sequences = await makeSequences();
    using elsewhere = await openDevice(backend);
    const good = sequences.map((sequence) => itemOf(sequence, 0, 1));
    const last = good.length - 1;
    const before = await contentsOfAll(sequences);
    using disposed = new KVCache(device, options);
    disposed.dispose();
    using foreign = new KVCache(elsewhere, options);
    using wide = new KVCache(device, { ...shape, headDim: 32 });
    using ungrouped = new KVCache(device, { ...shape, queryHeads: 2 });
    using gone = Tensor.zeros(device, "f32", [4, 1, 16]);
    gone.dispose();
    using f16 = Tensor.zeros(device, "f16", [4, 1, 16]);
    using f16Out = Tensor.zeros(device, "f16", [4, 1, 16]);
    using sum = Tensor.zeros(device, "f32", [4, 2]);
    const ones = (heads: number, headDim: number) => new Float32Array(heads * headDim).fill(1);
    const itemFor = (cache: KVCache, heads: number, headDim: number) => ({
      layer: cache.layers[0],
      k: ones(2, headDim),
      v: ones(2, headDim),
      q: ones(heads, headDim),
      out: ones(heads, headDim),
    });
    const at = (name: string) => ({ param: `items[${last}].${name}` });
    const bad: [string, object, object][] = [
      ["no item", null as never, { param: `items[${last}]` }],
      ["no layer", { ...good[last], layer: 0 }, at("layer")],
      ["a short q", { ...good[last], q: ones(3, 16), tokens: 1 }, at("q")],
      ["no out", { ...good[last], out: undefined }, at("out")],
      ["k without v", { ...good[last], v: undefined }, at("v")],
      ["a short v", { ...good[last], v: ones(1, 16) }, at("v")],
      ["tokens -1", { ...good[last], tokens: -1 }, at("tokens")],
      [
        "more queries than tokens",
        {
          ...good[last],
          k: undefined,
          v: undefined,
          tokens: 99,
          q: new Float32Array(99 * 64),
          out: new Float32Array(99 * 64),
        },
        at("queries"),
      ],
      ["an out of another dtype", { ...good[last], out: f16 }, at("out")],
      ["q of another dtype", { ...good[last], q: f16, out: f16Out }, at("q")],
      ["sums without room", { ...good[last], scores: { sum, mode: "query-head" } }, at("sum")],
      ["a mode that is none", { ...good[last], scores: { sum, mode: "x" } }, { param: "mode" }],
      ["a layer twice", { ...good[0] }, at("layer")],
      ["another headDim", itemFor(wide, 4, 32), at("layer")],
      ["another group", itemFor(ungrouped, 2, 16), at("layer")],
      ["a disposed tensor", { ...good[last], q: gone }, { code: "ERR_SPINDLEKV_DISPOSED" }],
      ["a disposed cache", itemFor(disposed, 4, 16), { code: "ERR_SPINDLEKV_DISPOSED" }],
      ["another device", itemFor(foreign, 4, 16), { code: "ERR_SPINDLEKV_WRONG_DEVICE" }],
    ];
    for (const [name, item, expected] of bad) {
      const items = [...good.slice(0, last), item] as LayerItem[];
      const error = expect.objectContaining({
        code: "ERR_SPINDLEKV_ARGUMENT",
        op: "attendBatch",
        ...expected,
      });
      expect(() => attendBatch({ items }), name).toThrowError(error);
      expect(await codeOf(attendBatchAsync({ items })), name).toBe(
        (expected as { code?: string }).code ?? "ERR_SPINDLEKV_ARGUMENT",
      );
      expect(await contentsOfAll(sequences), name).toEqual(before);
    }
    expect(() => attendBatch({ items: [...good, good[0]] })).toThrowError(
      /every layer of a cache once .* items\[0\] again/,
    );
    // The claim of a failed call does not stay.
    await attendBatch({ items: good });
    disposeAll(sequences);
  });

  it("aborted changes no cache, and busy caches are refused", async () => {
    const sequences = await makeSequences();
    const before = await contentsOfAll(sequences);
    const items = sequences.map((sequence) => itemOf(sequence, 0, 1));
    await expect(
      attendBatchAsync({ items }, { signal: AbortSignal.abort("no") }),
    ).rejects.toMatchObject({ code: "ERR_SPINDLEKV_ABORTED", op: "attendBatch", cause: "no" });
    expect(await contentsOfAll(sequences)).toEqual(before);
    const running = attendBatchAsync({ items });
    expect(await codeOf((async () => attendBatch({ items: [items[0]] }))())).toBe(
      "ERR_SPINDLEKV_BUSY",
    );
    await running;
    const compressing = sequences[0].cache.compress();
    expect(await codeOf((async () => attendBatch({ items: [items[0]] }))())).toBe(
      "ERR_SPINDLEKV_BUSY",
    );
    await compressing;
    disposeAll(sequences);
  });

  it("of no items does nothing", async () => {
    expect(attendBatch({ items: [] })).toBeUndefined();
    await attendBatchAsync({ items: [] });
  });
});
