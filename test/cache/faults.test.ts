// What goes wrong leaves the cache bit-identical to before, and usable.
import { expect, it } from "vitest";
import {
  type Device,
  KVCache,
  type Method,
  openDevice,
  PagePool,
  readStoredSlots,
  slidingWindow,
  snapKV,
  spindleKV,
  streamingLLM,
} from "../../lib/index.ts";
import { describeOp } from "../harness/backends.ts";
import { ask, codeOf, feed, makePrompt, type Prompt, sliceTokens, contentsOf } from "./fixtures.ts";
import { compareAttention, denseValues } from "./reference.ts";

const rope = { theta: 10_000, style: "neox" } as const;
const shape = { layers: 2, queryHeads: 4, kvHeads: 2, headDim: 16, dtype: "f16" } as const;

describeOp("a call that fails changes nothing", (backend, device) => {
  const isSlow = backend === "simt";
  const tokens = isSlow ? 10 : 70;
  const window = isSlow ? 2 : 6;
  const more = 4;
  const prompt = makePrompt(shape, tokens + more, { clusters: [4, 0] });
  const methods: Record<string, Method> = {
    snapKV: snapKV({ tokens: window + 3, window, group: "unfold", visibility: "head" }),
    "spindleKV in bytes": spindleKV({ bytes: isSlow ? 9000 : 15_000, window, refine: 1 }),
    "spindleKV of a fixed size": spindleKV({ tokens: tokens - 2, window, codewords: 3 }),
    streamingLLM: streamingLLM({ tokens: window + 2, sinks: 2 }),
    slidingWindow: slidingWindow({ bytes: isSlow ? 4000 : 9000 }),
  };

  const filled = async (
    method: Method,
    on: Device = device,
    contents: Prompt = prompt,
    pool?: PagePool,
  ) => {
    const cache = new KVCache(on, {
      ...shape,
      rope,
      method,
      preRopeKeys: true,
      pageSlots: 16,
      ...(pool === undefined ? {} : { pool }),
    });
    await feed(cache, contents, { to: tokens, attended: window });
    return cache;
  };

  /** The cache still appends, attends as before and compresses. */
  const expectAlive = async (cache: KVCache) => {
    using copy = cache.fork();
    expect(await codeOf(copy.compress())).toBe("resolved");
    await feed(copy, prompt, { from: tokens, to: tokens + 1 });
    if (cache.method.schedule === "every-step") return;
    using dense = cache.fork();
    await feed(dense, prompt, { from: tokens });
    const outputs = await ask(dense, prompt, tokens, tokens + more);
    outputs.forEach((out, layer) => {
      const options = { layer, from: tokens, to: tokens + more, rope };
      compareAttention(`layer ${layer}`, out, denseValues(prompt, options), "f16");
    });
  };

  it("compress() aborted at every step of its progress", async () => {
    for (const [name, method] of Object.entries(methods)) {
      if (isSlow && !name.startsWith("spindleKV in")) continue;
      using cache = await filled(method);
      const before = await contentsOf(cache);
      const steps: number[] = [];
      using whole = cache.fork();
      await whole.compress({ onProgress: (done) => steps.push(done) });
      expect(steps, name).toEqual([...steps].sort((a, b) => a - b));
      expect(steps.at(-1)).toBe(1);
      expect(steps.filter((done) => done === 1)).toHaveLength(1);
      for (const at of steps.keys()) {
        if (at === steps.length - 1) continue; // done
        const controller = new AbortController();
        const reason = new Error(`stopped at ${steps[at]}`);
        let step = 0;
        const job = cache.compress({
          signal: controller.signal,
          onProgress: () => {
            if (step++ === at) controller.abort(reason);
          },
        });
        await expect(job, `${name} at step ${at}`).rejects.toMatchObject({
          code: "ERR_SPINDLEKV_ABORTED",
          op: "compress",
          cause: reason,
        });
        expect(await contentsOf(cache), name).toBe(before);
      }
      const job = cache.compress({ signal: AbortSignal.abort("no") });
      await expect(job).rejects.toMatchObject({ code: "ERR_SPINDLEKV_ABORTED", cause: "no" });
      await expectAlive(cache);
    }
  });

  it("compress() out of memory at each allocation in turn", async () => {
    const each = {
      ...methods,
      "spindleKV in bytes": spindleKV({ bytes: 1 << 20, window, theta: "fixed", refine: 1 }),
    };
    for (const [name, method] of Object.entries(each)) {
      if (isSlow && name !== "snapKV") continue;
      // A device of its own: its workspaces are still to be allocated. A slab a page: every page is an allocation.
      using own = await openDevice(backend);
      using pool = new PagePool(own, { slabBytes: 256 });
      using cache = await filled(method, own, prompt, pool);
      const before = await contentsOf(cache);
      const used = cache.stats().pool.bytesUsed;
      let failed = 0;
      for (let n = 1; ; n++) {
        cache.forgetSimilarity();
        own.failAllocation(n);
        const code = await codeOf(cache.compress());
        own.failAllocation(0);
        if (code === "resolved") break;
        expect(code, `${name}, allocation ${n}`).toBe("ERR_SPINDLEKV_OUT_OF_MEMORY");
        expect(await contentsOf(cache), `${name}, allocation ${n}`).toBe(before);
        expect(cache.stats().pool.bytesUsed).toBe(used);
        failed += 1;
      }
      expect(failed, name).toBeGreaterThan(5);
      expect(cache.stats().bytes.total).toBe(cache.stats().pool.bytesUsed);
      await feed(cache, prompt, { from: tokens, chunk: 1 });
    }
  });

  it("append and attend out of memory at each allocation in turn", async () => {
    const cases: [string, Method, boolean][] = [
      ["plain", snapKV({ keep: 0.5, window }), false],
      ["trimming", streamingLLM({ tokens: tokens - 3, sinks: 2 }), false],
      [
        "inserting",
        spindleKV({ bytes: 1 << 20, window: 2, insertInterval: 2, thetaK: 0.9, thetaV: 0.9 }),
        true,
      ],
    ];
    for (const [name, method, isCompressed] of cases) {
      using own = await openDevice(backend);
      using pool = new PagePool(own, { slabBytes: 256 });
      using base = await filled(method, own, prompt, pool);
      if (isCompressed) await base.compress();
      using cache = base.fork(); // shares its open pages: the append copies them
      const rows = (part: "k" | "v") =>
        sliceTokens(prompt.layers[0][part], 2, 16, tokens, tokens + more);
      const before = await contentsOf(cache);
      let failed = 0;
      for (let n = 1; ; n++) {
        own.failAllocation(n);
        const code = await codeOf(
          (async () => cache.layers[0].append(rows("k"), rows("v"), more))(),
        );
        own.failAllocation(0);
        if (code === "resolved") break;
        expect(code, `${name}, allocation ${n}`).toBe("ERR_SPINDLEKV_OUT_OF_MEMORY");
        expect(await contentsOf(cache), `${name}, allocation ${n}`).toBe(before);
        failed += 1;
      }
      expect(failed, name).toBeGreaterThan(0);
      const q = sliceTokens(prompt.layers[0].q, 4, 16, tokens, tokens + more);
      const contents = await contentsOf(cache);
      for (let n = 1; ; n++) {
        own.failAllocation(n);
        const code = await codeOf(
          (async () => cache.layers[0].attend(q, new Float32Array(q.length), more))(),
        );
        own.failAllocation(0);
        if (code === "resolved") break;
        expect(code, `${name}, allocation ${n} of attend`).toBe("ERR_SPINDLEKV_OUT_OF_MEMORY");
        expect(await contentsOf(cache)).toBe(contents);
      }
    }
  });

  it("compress() of keys, values or queries that are not finite", async () => {
    const spoiled = (part: "k" | "v" | "q", value: number): Prompt => {
      const contents = makePrompt(shape, tokens + more, { clusters: [4, 0] });
      const heads = part === "q" ? 4 : 2;
      const perHead = contents.layers[1][part].length / heads;
      const token = tokens - 2; // protected: no method drops it
      contents.layers[1][part][(heads - 1) * perHead + token * 16 + 5] = value;
      return contents;
    };
    for (const value of [Number.NaN, Number.POSITIVE_INFINITY]) {
      for (const [part, names] of [
        ["k", ["snapKV", "spindleKV in bytes", "spindleKV of a fixed size"]],
        ["v", ["spindleKV in bytes", "spindleKV of a fixed size"]],
        ["q", ["snapKV", "spindleKV in bytes"]],
      ] as const) {
        for (const name of names) {
          using cache = await filled(methods[name], device, spoiled(part, value));
          const before = await contentsOf(cache);
          await expect(cache.compress(), `${name}: ${value} in ${part}`).rejects.toMatchObject({
            code: "ERR_SPINDLEKV_NON_FINITE",
            op: "compress",
          });
          expect(await contentsOf(cache)).toBe(before);
          await feed(cache, prompt, { from: tokens });
        }
      }
    }
  });

  it("a progress callback that throws", async () => {
    using cache = await filled(methods["spindleKV in bytes"]);
    const before = await contentsOf(cache);
    const own = new Error("mine");
    const job = cache.compress({
      onProgress: (done) => {
        if (done > 0.5) throw own;
      },
    });
    await expect(job).rejects.toBe(own);
    expect(await contentsOf(cache)).toBe(before);
    await expectAlive(cache);
  });

  it("every call but stats() while compress() runs is refused", async () => {
    using cache = await filled(methods["spindleKV in bytes"]);
    const { k, v, q } = prompt.layers[0];
    const one = (rows: Float32Array, heads: number) =>
      sliceTokens(rows, heads, 16, tokens, tokens + 1);
    const running = cache.compress();
    const calls: Record<string, () => unknown> = {
      append: () => cache.layers[0].append(one(k, 2), one(v, 2), 1),
      attend: () => cache.layers[0].attend(one(q, 4), new Float32Array(64), 1),
      fork: () => cache.fork(),
      compress: () => cache.compress(),
      snapshot: () => cache.snapshot(),
      readStoredSlots: () => readStoredSlots(cache, 0, 0),
    };
    for (const [op, call] of Object.entries(calls)) {
      const refusal = (async () => call())();
      await expect(refusal, op).rejects.toMatchObject({ code: "ERR_SPINDLEKV_BUSY", op });
    }
    expect(cache.stats().tokens).toBe(tokens);
    expect(await codeOf(running)).toBe("resolved");
    for (const op of ["append", "attend", "fork", "snapshot", "readStoredSlots"]) {
      expect(await codeOf((async () => calls[op]())()), op).toBe("resolved");
    }
  });

  it("dispose() while compress() runs fails that call and frees everything", async () => {
    for (const [name, method] of Object.entries(methods)) {
      using own = await openDevice(backend);
      const cache = await filled(method, own);
      const job = cache.compress();
      cache.dispose();
      expect(await codeOf(job), name).toBe("ERR_SPINDLEKV_DISPOSED");
      await own.synchronize();
      const idle = await filled(method, own);
      const late = idle.compress({
        onProgress: (done) => {
          if (done > 0.5) idle.dispose();
        },
      });
      expect(await codeOf(late), name).toBe("ERR_SPINDLEKV_DISPOSED");
      // Workspaces of the device's two threads at most.
      expect(own.allocations().count, name).toBeLessThanOrEqual(2);
    }
  });

  it("nothing works after dispose(), and dispose() may be called again", async () => {
    const cache = await filled(methods.snapKV);
    cache.dispose();
    cache.dispose();
    const calls: Record<string, () => unknown> = {
      append: () => cache.layers[0].append(new Float32Array(32), new Float32Array(32), 1),
      attend: () => cache.layers[0].attend(new Float32Array(64), new Float32Array(64), 1),
      slots: () => cache.layers[0].slots,
      tokens: () => cache.tokens,
      fork: () => cache.fork(),
      compress: () => cache.compress(),
      stats: () => cache.stats(),
      snapshot: () => cache.snapshot(),
      readStoredSlots: () => readStoredSlots(cache, 0, 0),
    };
    for (const [name, call] of Object.entries(calls)) {
      const result = (async () => call())();
      await expect(result, name).rejects.toMatchObject({ code: "ERR_SPINDLEKV_DISPOSED" });
    }
    const own = await openDevice(backend);
    using orphan = await filled(methods.snapKV, own);
    own.dispose();
    for (const call of [() => orphan.stats(), () => orphan.compress(), () => orphan.fork()]) {
      const result = (async () => call())();
      await expect(result).rejects.toMatchObject({ code: "ERR_SPINDLEKV_DISPOSED" });
    }
  });
});
