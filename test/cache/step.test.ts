// cache.step: all layers of a cache in one call are what append and attend do for one layer after the other.
import { expect, it } from "vitest";
import {
  type Device,
  KVCache,
  type KVCacheOptions,
  type Method,
  openDevice,
  PagePool,
  snapKV,
  spindleKV,
  type StepParams,
  streamingLLM,
  Tensor,
} from "../../lib/index.ts";
import { describeOp } from "../harness/backends.ts";
import { codeOf, contentsOf, feed, makePrompt, type Prompt, sliceTokens } from "./fixtures.ts";
import { compareAttention, denseValues } from "./reference.ts";

const rope = { theta: 10_000, style: "neox" } as const;
const shape = { layers: 3, queryHeads: 4, kvHeads: 2, headDim: 16, dtype: "f16" } as const;

/** Rows of every layer, one after the other: [layers, heads, tokens, D]. */
function stacked(prompt: Prompt, part: "k" | "v" | "q", from: number, to: number): Float32Array {
  const heads = part === "q" ? shape.queryHeads : shape.kvHeads;
  const layers = prompt.layers.map((rows) =>
    sliceTokens(rows[part], heads, shape.headDim, from, to),
  );
  const all = new Float32Array(layers.length * layers[0].length);
  layers.forEach((rows, i) => {
    all.set(rows, i * rows.length);
  });
  return all;
}

function stepParams(prompt: Prompt, from: number, to: number) {
  const q = stacked(prompt, "q", from, to);
  return {
    k: stacked(prompt, "k", from, to),
    v: stacked(prompt, "v", from, to),
    q,
    out: new Float32Array(q.length),
    tokens: to - from,
  } satisfies StepParams;
}

/** The same by single calls; outputs of all layers, one after the other. */
async function separately(
  cache: KVCache,
  prompt: Prompt,
  from: number,
  to: number,
): Promise<Float32Array> {
  const { k, v, q, out } = stepParams(prompt, from, to);
  for (const layer of cache.layers) {
    const rows = (all: Float32Array) => {
      const size = all.length / shape.layers;
      return all.subarray(layer.index * size, (layer.index + 1) * size);
    };
    layer.append(rows(k), rows(v), to - from);
    await layer.attend(rows(q), rows(out), to - from);
  }
  return out;
}

describeOp("cache.step", (backend, device) => {
  const isSlow = backend === "simt";
  const prefix = isSlow ? 7 : 60;
  const more = isSlow ? 4 : 12;
  const prompt = makePrompt(shape, prefix + more, { clusters: [4, 4, 0] });
  const methods: Record<string, Method | undefined> = {
    full: undefined,
    recording: snapKV({ tokens: 5, window: 3 }),
    trimming: streamingLLM({ tokens: prefix - 3, sinks: 2 }),
    inserting: spindleKV({
      tokens: prefix,
      window: 2,
      insertInterval: 2,
      thetaK: 0.5,
      thetaV: 0.5,
    }),
  };
  const filled = async (method: Method | undefined, options: Partial<KVCacheOptions> = {}) => {
    const cache = new KVCache(options.pool?.device ?? device, {
      ...shape,
      rope,
      preRopeKeys: true,
      pageSlots: isSlow ? 4 : 16,
      ...(method === undefined ? {} : { method }),
      ...options,
    });
    await feed(cache, prompt, { to: prefix, attended: 4 });
    if (method?.codec.id === "codebook") await cache.compress();
    return cache;
  };
  const names = Object.keys(methods).filter((name) => !isSlow || name !== "inserting");

  it("gives the outputs and the cache of single calls, whatever the method", async () => {
    for (const name of names) {
      using base = await filled(methods[name]);
      using whole = base.fork();
      using apart = base.fork();
      let from = prefix;
      for (const tokens of [1, 1, 2, more - 4]) {
        const params = stepParams(prompt, from, from + tokens);
        await whole.step(params);
        const expected = await separately(apart, prompt, from, from + tokens);
        // One launch or many: only the CPU promises the same bits.
        if (backend === "cpu") expect(params.out, name).toEqual(expected);
        expect(await contentsOf(whole), `${name}, token ${from}`).toBe(await contentsOf(apart));
        if (name === "full") {
          const size = params.out.length / shape.layers;
          for (let layer = 0; layer < shape.layers; layer++) {
            const out = params.out.subarray(layer * size, (layer + 1) * size);
            const options = { layer, from, to: from + tokens, rope };
            compareAttention(`layer ${layer}`, out, denseValues(prompt, options), "f16");
          }
        }
        from += tokens;
      }
      if (name === "recording") {
        await whole.compress();
        await apart.compress();
        expect(await contentsOf(whole)).toBe(await contentsOf(apart));
      }
    }
  });

  it("takes tensors, strided ones too, and adds scores layer by layer", async () => {
    using whole = await filled(undefined);
    using apart = whole.fork();
    const { k, v, q } = stepParams(prompt, prefix, prefix + 1);
    const slots = prefix + 1;
    // Heads apart by two rows, layers by three heads more than there are.
    const strided = (rows: Float32Array, heads: number) => {
      const wide = new Float32Array(shape.layers * (heads + 3) * 2 * 16);
      for (let row = 0; row < shape.layers * heads; row++) {
        const at = (Math.floor(row / heads) * (heads + 3) + (row % heads)) * 2 * 16;
        wide.set(rows.subarray(row * 16, row * 16 + 16), at);
      }
      return Tensor.from(device, "f32", [wide.length], wide).view({
        shape: [shape.layers, heads, 1, 16],
        strides: [(heads + 3) * 32, 32, 16, 1],
      });
    };
    using out = Tensor.zeros(device, "f32", [shape.layers, 4, 1, 16]);
    for (const [mode, rows] of [
      ["query-head", 4],
      ["kv-head", 2],
    ] as const) {
      using copy = whole.fork();
      using sum = Tensor.zeros(device, "f32", [shape.layers, rows, slots + 2]);
      await copy.step({
        k: strided(k, 2),
        v: strided(v, 2),
        q: strided(q, 4),
        out,
        scores: { sum, mode },
      });
      const sums = (await sum.read()) as Float32Array;
      for (const layer of copy.layers) {
        const size = rows * (slots + 2);
        for (let row = 0; row < rows; row++) {
          const from = layer.index * size + row * (slots + 2);
          const total = sums.subarray(from, from + slots).reduce((a, b) => a + b, 0);
          expect(total).toBeCloseTo(mode === "kv-head" ? 2 : 1, 4);
          expect([...sums.subarray(from + slots, from + slots + 2)]).toEqual([0, 0]);
        }
      }
    }
    const expected = await separately(apart, prompt, prefix, prefix + 1);
    if (backend === "cpu") expect(await out.read()).toEqual(expected);
  });

  it("out of memory at each allocation in turn changes nothing", async () => {
    for (const name of names) {
      using own = await openDevice(backend);
      using pool = new PagePool(own, { slabBytes: 256 });
      using base = await filled(methods[name], { pool });
      using cache = base.fork();
      const params = stepParams(prompt, prefix, prefix + more);
      const before = await contentsOf(cache);
      const used = pool.stats().bytesUsed;
      let failed = 0;
      for (let n = 1; ; n++) {
        own.failAllocation(n);
        const code = await codeOf((async () => cache.step(params))());
        own.failAllocation(0);
        if (code === "resolved") break;
        expect(code, `${name}, allocation ${n}`).toBe("ERR_SPINDLEKV_OUT_OF_MEMORY");
        expect(await contentsOf(cache), `${name}, allocation ${n}`).toBe(before);
        expect(pool.stats().bytesUsed).toBe(used);
        failed += 1;
      }
      expect(failed, name).toBeGreaterThan(2);
      using apart = base.fork();
      const expected = await separately(apart, prompt, prefix, prefix + more);
      if (backend === "cpu") expect(params.out).toEqual(expected);
      expect(await contentsOf(cache)).toBe(await contentsOf(apart));
    }
  });

  it("off the event loop gives the same, and refuses other calls until then", async () => {
    using cache = await filled(methods.recording);
    using apart = cache.fork();
    const params = stepParams(prompt, prefix, prefix + 2);
    const running = cache.stepAsync(params);
    const one = stepParams(prompt, prefix + 2, prefix + 3);
    const calls: Record<string, () => unknown> = {
      step: () => cache.step(one),
      stepAsync: () => cache.stepAsync(one),
      append: () => cache.layers[0].append(one.k.subarray(0, 32), one.v.subarray(0, 32), 1),
      attend: () => cache.layers[0].attend(one.q.subarray(0, 64), new Float32Array(64), 1),
      stats: () => cache.stats(),
      fork: () => cache.fork(),
      compress: () => cache.compress(),
      snapshot: () => cache.snapshot(),
    };
    for (const [name, call] of Object.entries(calls)) {
      expect(await codeOf((async () => call())()), name).toBe("ERR_SPINDLEKV_BUSY");
      if (name === "step") break; // the others are tried while nothing was awaited yet
    }
    await running;
    const expected = await separately(apart, prompt, prefix, prefix + 2);
    if (backend === "cpu") expect(params.out).toEqual(expected);
    expect(await contentsOf(cache)).toBe(await contentsOf(apart));
    const second = cache.stepAsync(one);
    const refusals = Object.values(calls).map((call) => codeOf((async () => call())()));
    for (const refusal of refusals) expect(await refusal).toBe("ERR_SPINDLEKV_BUSY");
    await second;
    expect(cache.stats().tokens).toBe(prefix + 3);
  });

  it("aborted leaves the cache as it was", async () => {
    using cache = await filled(methods.recording);
    const before = await contentsOf(cache);
    const params = stepParams(prompt, prefix, prefix + more);
    const reason = new Error("enough");
    await expect(
      cache.stepAsync(params, { signal: AbortSignal.abort(reason) }),
    ).rejects.toMatchObject({ code: "ERR_SPINDLEKV_ABORTED", op: "step", cause: reason });
    expect(await contentsOf(cache)).toBe(before);
    const controller = new AbortController();
    const late = codeOf(cache.stepAsync(params, { signal: controller.signal }));
    controller.abort();
    const code = await late; // whichever came first
    const isDone = code === "resolved";
    if (!isDone) expect(code).toBe("ERR_SPINDLEKV_ABORTED");
    expect((await contentsOf(cache)) === before).toBe(!isDone);
    expect(cache.tokens).toBe(isDone ? prefix + more : prefix);
  });

  it("dispose() during one lets it finish and frees everything", async () => {
    const own: Device = await openDevice(backend);
    const pool = new PagePool(own);
    const cache = await filled(undefined, { pool });
    const running = cache.stepAsync(stepParams(prompt, prefix, prefix + 1));
    cache.dispose();
    expect(await codeOf(running)).toBe("resolved");
    expect(await codeOf((async () => cache.step(stepParams(prompt, 0, 1)))())).toBe(
      "ERR_SPINDLEKV_DISPOSED",
    );
    expect(pool.stats().bytesUsed).toBe(0);
    pool.dispose();
    await own.synchronize();
    expect(own.allocations().count).toBeLessThanOrEqual(2); // workspaces of its two threads
    own.dispose();
  });

  it("steps that need no page allocate nothing", async () => {
    using cache = await filled(undefined, { pageSlots: 4096 });
    cache.step(stepParams(prompt, prefix, prefix + 1));
    const before = device.allocations();
    const used = cache.stats().pool.bytesUsed;
    for (let i = 1; i < more; i++) await cache.step(stepParams(prompt, prefix + i, prefix + i + 1));
    expect(device.allocations()).toEqual(before);
    expect(cache.stats().pool.bytesUsed).toBe(used);
  });

  it("refuses rows of another shape", async () => {
    using cache = await filled(undefined);
    const before = await contentsOf(cache);
    const good = stepParams(prompt, prefix, prefix + 1);
    using flat = Tensor.zeros(device, "f32", [2, 1, 16]);
    using sum = Tensor.zeros(device, "f32", [shape.layers, 4, prefix]);
    const bad: [string, object, object][] = [
      ["params", undefined as never, { param: "params" }],
      ["k", { ...good, k: undefined }, { param: "k" }],
      ["k as a number", { ...good, k: 0 }, { param: "k" }],
      ["k of one layer", { ...good, k: flat }, { param: "k" }],
      ["short v", { ...good, v: good.v.subarray(1) }, { param: "v" }],
      ["no q", { ...good, q: undefined }, { param: "q" }],
      ["short out", { ...good, out: good.out.subarray(1) }, { param: "out" }],
      ["other tokens", { ...good, tokens: 2 }, {}],
      ["half a token", { ...good, tokens: 0.5 }, { param: "tokens" }],
      ["a mode that is none", { ...good, scores: { sum, mode: "all" } }, { param: "mode" }],
      ["sums without room", { ...good, scores: { sum, mode: "query-head" } }, { param: "sum" }],
    ];
    for (const [name, params, expected] of bad) {
      expect(() => cache.step(params as never), name).toThrowError(
        expect.objectContaining({ code: "ERR_SPINDLEKV_ARGUMENT", op: "step", ...expected }),
      );
      expect(await codeOf(cache.stepAsync(params as never)), name).toBe("ERR_SPINDLEKV_ARGUMENT");
      expect(await contentsOf(cache), name).toBe(before);
    }
    await cache.step(good);
  });
});
