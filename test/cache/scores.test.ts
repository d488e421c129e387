// Scores of the slots that a cache holds: those of the op over its runs.
import { expect, it } from "vitest";
import { type KVCache, Tensor } from "../../lib/index.ts";
import { storeAddon } from "../../lib/cache/native-store.ts";
import { describeOp } from "../harness/backends.ts";
import { compareWindow, UNWRITTEN } from "../harness/window.ts";
import type { WindowNorm } from "../oracle/window-scores.ts";
import { codeOf, filledCache, makePrompt, sliceTokens } from "./fixtures.ts";
import { denseValues } from "./reference.ts";

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

  for (const norm of ["sum", "window", "causalCount"] as const) {
    it(`every output over the last queries, norm ${norm}`, async () => {
      using cache = await open();
      using sum = rows();
      using sumSq = rows();
      using max = rows();
      using entropy = Tensor.zeros(device, "f32", [queryHeads]);
      using lse = Tensor.zeros(device, "f32", [queryHeads, window]);
      using nonfinite = Tensor.from(device, "i32", [1], Int32Array.from([7]));
      await windowScores(cache, { sum, sumSq, max, entropy, lse, nonfinite }, norm);
      const read = async (tensor: Tensor) => (await tensor.read()) as Float32Array;
      const got = {
        sum: await read(sum),
        sumSq: await read(sumSq),
        max: await read(max),
        entropy: await read(entropy),
        lse: await read(lse),
        nonfinite: Number((await nonfinite.read())[0]) - 7,
      };
      compareWindow(got, values, { norm });
    });
  }

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
