// Scores of the slots that a cache holds: those of the op over its runs.
import { expect, it } from "vitest";
import { KVCache, snapKV, spindleKV, streamingLLM, Tensor } from "../../lib/index.ts";
import { storeAddon } from "../../lib/cache/native-store.ts";
import { describeOp } from "../harness/backends.ts";
import { compareExact } from "../harness/compare.ts";
import { compareWindow, UNWRITTEN } from "../harness/window.ts";
import { keyStatsTwin } from "../oracle/key-stats.ts";
import type { WindowCounting, WindowNorm } from "../oracle/window-scores.ts";
import { storedLayer } from "../methods/kept.ts";
import { codeOf, feed, filledCache, makePrompt, sliceTokens } from "./fixtures.ts";
import { denseValues, storedValues } from "./reference.ts";

const rope = { theta: 10_000, style: "norm" } as const;
const shape = { layers: 2, queryHeads: 6, kvHeads: 2, headDim: 16, dtype: "f16" } as const;
const layer = 1;
const window = 5;

interface Outputs {
  readonly sum?: Tensor;
  readonly sumSq?: Tensor;
  readonly max?: Tensor;
  readonly entropy?: Tensor;
  readonly lse?: Tensor;
  readonly nonfinite?: Tensor;
  readonly queryWeights?: Tensor;
  readonly entropyContext?: boolean;
}

const windowScores = async (cache: KVCache, outputs: Outputs, norm: WindowNorm = "sum") =>
  storeAddon().storeWindowScores(cache, { layer, window, norm, scale: cache.scale, ...outputs });

describeOp("window scores of a layer", (backend, device) => {
  const tokens = backend === "simt" ? 9 : 90;
  const prompt = makePrompt(shape, tokens);
  const { queryHeads } = shape;
  const values = denseValues(prompt, {
    layer,
    from: tokens - window,
    to: tokens,
    rope,
    isRotated: true,
  });
  const rows = (width = tokens) =>
    Tensor.from(
      device,
      "f32",
      [queryHeads, width],
      new Float32Array(queryHeads * width).fill(UNWRITTEN),
    );
  const open = () => filledCache(device, prompt, { rope, recordQueries: window + 2 }, window + 1);

  const made = (...shape: number[]) => Tensor.zeros(device, "f32", shape);

  /** Every output of the window's statistics against the oracle; 7 is counted before. */
  async function check(setting: WindowCounting & { norm: WindowNorm }): Promise<void> {
    using cache = await open();
    using sum = rows();
    using sumSq = rows();
    using max = rows();
    using entropy = made(queryHeads);
    using lse = made(queryHeads, window);
    using nonfinite = Tensor.from(device, "i32", [1], Int32Array.from([7]));
    const { queryWeights: weights = new Float32Array(window), ...rest } = setting;
    using queryWeights = Tensor.from(device, "f32", [window], weights);
    const counting = setting.queryWeights === undefined ? rest : { ...rest, queryWeights };
    const outputs = { sum, sumSq, max, entropy, lse, nonfinite };
    await windowScores(cache, { ...outputs, ...counting }, setting.norm);
    const read = async (tensor: Tensor) => (await tensor.read()) as Float32Array;
    const got = {
      sum: await read(sum),
      sumSq: await read(sumSq),
      max: await read(max),
      entropy: await read(entropy),
      lse: await read(lse),
      nonfinite: Number((await nonfinite.read())[0]) - 7,
    };
    compareWindow(got, values, setting);
  }

  for (const norm of ["sum", "window", "causalCount"] as const) {
    it(`every output over the last queries, norm ${norm}`, () => check({ norm }));
  }

  it("queries with weights, and the entropy of what lies before them", () =>
    check({
      norm: "window",
      queryWeights: Float32Array.from({ length: window }, (_, w) => 0.5 ** w),
      entropyContext: true,
    }));

  it("an output that is left out changes no other", async () => {
    using cache = await open();
    using sum = rows();
    using alone = rows();
    using max = rows();
    await windowScores(cache, { sum, max });
    await windowScores(cache, { sum: alone });
    expect(await alone.read()).toEqual(await sum.read());
    await windowScores(cache, {});
  });

  it("refuses outputs of the wrong size, and strides that differ", async () => {
    using cache = await open();
    using narrow = rows(tokens - 1);
    using wide = rows(tokens + 1);
    using sum = rows();
    using few = Tensor.zeros(device, "f32", [queryHeads - 1]);
    using short = Tensor.zeros(device, "f32", [queryHeads, window - 1]);
    const cases: [string, Outputs][] = [
      ["sum", { sum: narrow }],
      ["max", { max: few.view({ shape: [1, queryHeads - 1] }) }],
      ["sumSq", { sum, sumSq: wide }],
      ["entropy", { entropy: few }],
      ["lse", { lse: short }],
      ["nonfinite", { nonfinite: sum }],
      ["queryWeights", { queryWeights: few.view({ shape: [window - 1] }) }],
    ];
    for (const [param, outputs] of cases) {
      await expect(windowScores(cache, outputs), param).rejects.toEqual(
        expect.objectContaining({
          code: "ERR_SPINDLEKV_ARGUMENT",
          op: "windowScores",
          param,
        }),
      );
    }
  });

  it("needs recorded queries", async () => {
    using cache = await filledCache(device, prompt, { rope, recordQueries: window }, window - 1);
    using sum = rows();
    expect(await codeOf(windowScores(cache, { sum }))).toBe("ERR_SPINDLEKV_MISSING_INPUT");
  });
});

describeOp("recorded queries of a layer", (_backend, device) => {
  const prompt = makePrompt(shape, 9);
  const rowsOf = (head: number, from: number) =>
    sliceTokens(prompt.layers[layer].q, shape.queryHeads, shape.headDim, from, 9).subarray(
      head * (9 - from) * shape.headDim,
      (head + 1) * (9 - from) * shape.headDim,
    );

  it("the last ones of a query head, as they came", async () => {
    using cache = await filledCache(device, prompt, { rope, recordQueries: 4 }, 7);
    for (const head of [0, 5]) {
      for (const count of [1, 4]) {
        const got = await storeAddon().storeQueries(cache, { layer, head, count });
        expect(got).toEqual(rowsOf(head, 9 - count));
      }
    }
  });

  it("of 16-bit tensors too", async () => {
    using cache = await filledCache(device, prompt, { recordQueries: 4 });
    const { q } = prompt.layers[layer];
    for (const dtype of ["f16", "bf16"] as const) {
      using rows = Tensor.from(device, dtype, [shape.queryHeads, 9, shape.headDim], q);
      using out = Tensor.zeros(device, dtype, [shape.queryHeads, 9, shape.headDim]);
      await cache.layers[layer].attend(rows, out);
      const got = await storeAddon().storeQueries(cache, { layer, head: 2, count: 3 });
      const stored = (await rows.read()) as Float32Array;
      const from = (2 * 9 + 6) * shape.headDim;
      expect(got).toEqual(stored.slice(from, from + 3 * shape.headDim));
    }
  });

  it("refuses heads that are not there and more rows than recorded", async () => {
    using cache = await filledCache(device, prompt, { recordQueries: 4 }, 3);
    const read = async (options: { layer: number; head: number; count: number }) =>
      storeAddon().storeQueries(cache, options);
    expect(await codeOf(read({ layer, head: 0, count: 4 }))).toBe("ERR_SPINDLEKV_MISSING_INPUT");
    for (const [param, options] of [
      ["layer", { layer: 2, head: 0, count: 1 }],
      ["head", { layer, head: 6, count: 1 }],
      ["count", { layer, head: 0, count: 0 }],
    ] as const) {
      await expect(read(options), param).rejects.toEqual(
        expect.objectContaining({ code: "ERR_SPINDLEKV_ARGUMENT", op: "queries", param }),
      );
    }
  });
});

describeOp("key statistics of a layer", (backend, device) => {
  const isSlow = backend === "simt";
  const tokens = isSlow ? 14 : 150;
  const rope10k = { theta: 10_000, style: "neox" } as const;
  const prompt = makePrompt(shape, tokens, { clusters: [5, 40] });
  const half = isSlow ? 2 : 9;
  const caches = {
    "keys after RoPE": { rope: rope10k },
    "keys before RoPE": { rope: rope10k, preRopeKeys: true },
    "no RoPE": {},
    "kept slots": { rope: rope10k, method: snapKV({ keep: 0.5, window: half }) },
    "re-indexed positions": {
      rope: rope10k,
      method: streamingLLM({ tokens: tokens - 4, sinks: 2 }),
    },
    "a codebook and raw slots behind": {
      rope: rope10k,
      method: spindleKV({ keep: 0.9, window: half, theta: "fixed", recentRaw: true }),
    },
  };
  for (const [name, options] of Object.entries(caches)) {
    it(`over ${name}`, async () => {
      using cache = new KVCache(device, { ...shape, ...options, pageSlots: 16 });
      await feed(cache, prompt, { to: tokens - 2, attended: half });
      if ("method" in options) await cache.compress();
      await feed(cache, prompt, { from: tokens - 2 });
      const stored = await storedLayer(cache, layer);
      const width = Math.max(...stored.map((head) => head.slots));
      const made = () => Tensor.zeros(device, "f32", [shape.kvHeads, width]);
      using kNorm = made();
      using cosToMean = made();
      using vNorm = made();
      using vL1 = made();
      using nonfinite = Tensor.zeros(device, "i32", [1]);
      const outputs = { kNorm, cosToMean, vNorm, vL1 };
      await storeAddon().storeKeyStats(cache, { layer, ...outputs, nonfinite });
      const expected = keyStatsTwin(
        storedValues(prompt, stored, {
          ...{ layer, from: tokens - 1, to: tokens, reindex: name === "re-indexed positions" },
          ...("rope" in options ? { rope: options.rope } : {}),
        }),
      );
      for (const part of ["kNorm", "cosToMean", "vNorm", "vL1"] as const) {
        const got = (await outputs[part].read()) as Float32Array;
        stored.forEach((head, h) => {
          const row = got.subarray(h * width, h * width + head.slots);
          compareExact(`${part} of head ${h}`, row, expected[part][h]);
        });
      }
      expect(Number((await nonfinite.read())[0])).toBe(0);
    });
  }

  it("refuses layers that are not there and outputs of the wrong size", async () => {
    using cache = await filledCache(device, makePrompt(shape, 5));
    using narrow = Tensor.zeros(device, "f32", [shape.kvHeads, 4]);
    using good = Tensor.zeros(device, "f32", [shape.kvHeads, 5]);
    const cases: [string, object][] = [
      ["layer", { layer: 2, kNorm: good }],
      ["kNorm", { layer, kNorm: narrow }],
      ["vL1", { layer, kNorm: good, vL1: Tensor.zeros(device, "f32", [shape.kvHeads, 6]) }],
      ["cosToMean", { layer, cosToMean: good.view({ shape: [1, 10] }) }],
    ];
    for (const [param, options] of cases) {
      const call = async () => storeAddon().storeKeyStats(cache, options as { layer: number });
      await expect(call(), param).rejects.toEqual(
        expect.objectContaining({ code: "ERR_SPINDLEKV_ARGUMENT", op: "keyStats", param }),
      );
    }
  });
});
