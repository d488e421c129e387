// Bad arguments of KVCache, LayerCache, compress and readStoredSlots: one test per check.
import { describe, expect, it } from "vitest";
import {
  compose,
  KVCache,
  openDevice,
  PagePool,
  position,
  readStoredSlots,
  sinksAndRecent,
  snapKV,
  spindleKV,
  streamingLLM,
  Tensor,
  uniform,
} from "../../lib/index.ts";
import { filledCache, makePrompt, contentsOf } from "./fixtures.ts";

const device = await openDevice("cpu");
const other = await openDevice("cpu", { threads: 1 });
const rope = { theta: 10_000, style: "neox" } as const;
const shape = { layers: 2, queryHeads: 4, kvHeads: 2, headDim: 8, dtype: "f16" } as const;
const isError = (expected: object) => expect.objectContaining(expected);

describe("KVCache refuses", () => {
  const bad: [string, object | undefined, object][] = [
    ["no options", undefined, { param: "options" }],
    ["layers 0", { layers: 0 }, { param: "layers" }],
    ["layers that are no integer", { layers: 1.5 }, { param: "layers" }],
    ["too many layers", { layers: 4097 }, { param: "layers" }],
    ["kvHeads 0", { kvHeads: 0 }, { param: "kvHeads" }],
    ["negative kvHeads", { kvHeads: -2 }, { param: "kvHeads" }],
    ["kvHeads that are text", { kvHeads: "2" }, { param: "kvHeads" }],
    ["queryHeads that kvHeads do not divide", { queryHeads: 5 }, { param: "queryHeads" }],
    ["queryHeads 0", { queryHeads: 0 }, { param: "queryHeads" }],
    ["more than 16 query heads a KV head", { queryHeads: 34 }, { param: "queryHeads" }],
    ["headDim 12", { headDim: 12 }, { param: "headDim" }],
    ["headDim 0", { headDim: 0 }, { param: "headDim" }],
    ["headDim 520", { headDim: 520 }, { param: "headDim" }],
    ["dtype i32", { dtype: "i32" }, { param: "dtype" }],
    ["pageSlots 0", { pageSlots: 0 }, { param: "pageSlots" }],
    ["pageSlots 65537", { pageSlots: 65537 }, { param: "pageSlots" }],
    ["scale 0", { scale: 0 }, { param: "scale" }],
    ["scale NaN", { scale: Number.NaN }, { param: "scale" }],
    ["scale infinite", { scale: Number.POSITIVE_INFINITY }, { param: "scale" }],
    ["recordQueries -1", { recordQueries: -1 }, { param: "recordQueries" }],
    ["a rope that is no object", { rope: 10_000 }, { param: "rope" }],
    [
      "rope.theta 1",
      { rope: { theta: 1, style: "norm" } },
      { op: "makeRopeTable", param: "theta" },
    ],
    ["rope.style", { rope: { theta: 1e4, style: "gptj" } }, { param: "rope.style" }],
    ["odd rope.nRot", { rope: { ...rope, nRot: 5 } }, { op: "makeRopeTable", param: "nRot" }],
    ["rope.nRot above headDim", { rope: { ...rope, nRot: 16 } }, { param: "rope.nRot" }],
    [
      "rope.scaling",
      { rope: { ...rope, scaling: { kind: "ntk" } } },
      { param: "rope.scaling.kind" },
    ],
    ["a pool that is none", { pool: {} }, { param: "pool" }],
    ["a method that is none", { method: { id: "mine" } }, { param: "method" }],
    ["a method by name", { method: "snapkv" }, { param: "method" }],
    [
      "a codebook without rope",
      { method: spindleKV({ keep: 0.5 }) },
      { code: "ERR_SPINDLEKV_MISSING_INPUT" },
    ],
    [
      "re-indexed positions without rope",
      { method: streamingLLM({ tokens: 9 }) },
      { code: "ERR_SPINDLEKV_MISSING_INPUT" },
    ],
    [
      "a pool of another device",
      { pool: new PagePool(other) },
      { code: "ERR_SPINDLEKV_WRONG_DEVICE" },
    ],
  ];
  for (const [name, options, expected] of bad) {
    it(name, () => {
      const all = options === undefined ? undefined : { ...shape, ...options };
      const before = device.allocations().count;
      expect(() => new KVCache(device, all as never)).toThrowError(
        isError({ code: "ERR_SPINDLEKV_ARGUMENT", op: "KVCache", ...expected }),
      );
      expect(device.allocations().count).toBe(before);
    });
  }

  it("a device that is none", () => {
    expect(() => new KVCache({} as never, shape)).toThrowError(
      isError({ code: "ERR_SPINDLEKV_ARGUMENT", param: "device" }),
    );
  });
});

describe("append and attend refuse", () => {
  const tokens = 4;
  const rows = (heads: number, count = tokens) => new Float32Array(heads * count * 8);
  const bad: [string, "append" | "attend", unknown[], object][] = [
    ["no keys", "append", [undefined, rows(2)], { param: "k" }],
    ["a number for keys", "append", [0, rows(2), tokens], { param: "k" }],
    ["keys that are no rows", "append", [[1, 2], rows(2), 1], { param: "k" }],
    ["keys of another length", "append", [rows(2, 3), rows(2), tokens], { param: "k" }],
    ["values of another length", "append", [rows(2), rows(2, 3), tokens], { param: "v" }],
    ["half a row", "append", [new Float32Array(17), rows(2, 1)], { param: "k" }],
    ["float64 keys", "append", [new Float64Array(64), rows(2), tokens], { param: "k" }],
    ["a negative number of tokens", "append", [rows(2), rows(2), -1], { param: "tokens" }],
    ["tokens that are no integer", "append", [rows(2), rows(2), 1.5], { param: "tokens" }],
    [
      "keys of another device",
      "append",
      [Tensor.zeros(other, "f16", [2, tokens, 8]), rows(2), tokens],
      { code: "ERR_SPINDLEKV_WRONG_DEVICE" },
    ],
    ["integer keys", "append", [Tensor.zeros(device, "i32", [2, 4, 8]), rows(2)], { param: "k" }],
    ["two axes", "append", [Tensor.zeros(device, "f16", [8, 8]), rows(2), 4], { param: "k" }],
    [
      "rows with gaps inside",
      "append",
      [
        Tensor.zeros(device, "f16", [2, 8, 4]).view({ shape: [2, 4, 8], strides: [32, 1, 4] }),
        rows(2),
      ],
      { param: "k" },
    ],
    [
      "values of another dtype than the keys",
      "append",
      [Tensor.zeros(device, "f16", [2, 4, 8]), rows(2)],
      { param: "values" },
    ],
    ["queries of another length", "attend", [rows(4, 3), rows(4), tokens], { param: "q" }],
    ["an output of another length", "attend", [rows(4), rows(4, 3), tokens], { param: "out" }],
    ["no output", "attend", [rows(4), undefined, tokens], { param: "out" }],
    [
      "an output of another dtype",
      "attend",
      [rows(4), Tensor.zeros(device, "f16", [4, 4, 8]), tokens],
      { param: "out" },
    ],
    ["more queries than tokens", "attend", [rows(4, 9), rows(4, 9), 9], { param: "queries" }],
    [
      "an output of another device",
      "attend",
      [rows(4), Tensor.zeros(other, "f32", [4, 4, 8]), tokens],
      { code: "ERR_SPINDLEKV_WRONG_DEVICE" },
    ],
    [
      "score sums that are too short",
      "attend",
      [
        rows(4),
        rows(4),
        4,
        { scores: { sum: Tensor.zeros(device, "f32", [4, 3]), mode: "query-head" } },
      ],
      { param: "sum" },
    ],
    [
      "score sums of other rows",
      "attend",
      [
        rows(4),
        rows(4),
        4,
        { scores: { sum: Tensor.zeros(device, "f32", [4, 4]), mode: "kv-head" } },
      ],
      { param: "sum" },
    ],
    [
      "a score mode that is none",
      "attend",
      [rows(4), rows(4), 4, { scores: { sum: Tensor.zeros(device, "f32", [4, 4]), mode: "all" } }],
      { param: "mode" },
    ],
    [
      "score sums of another device",
      "attend",
      [
        rows(4),
        rows(4),
        4,
        { scores: { sum: Tensor.zeros(other, "f32", [4, 4]), mode: "query-head" } },
      ],
      { code: "ERR_SPINDLEKV_WRONG_DEVICE" },
    ],
  ];
  for (const [name, op, args, expected] of bad) {
    it(name, async () => {
      using cache = await filledCache(device, makePrompt(shape, tokens));
      const before = await contentsOf(cache);
      const layer = cache.layers[0] as unknown as Record<string, (...all: unknown[]) => unknown>;
      expect(() => layer[op](...args)).toThrowError(
        isError({ code: "ERR_SPINDLEKV_ARGUMENT", op, ...expected }),
      );
      expect(await contentsOf(cache)).toBe(before);
    });
  }

  it("a disposed tensor", async () => {
    using cache = await filledCache(device, makePrompt(shape, tokens));
    const gone = Tensor.zeros(device, "f32", [2, 4, 8]);
    gone.dispose();
    expect(() => cache.layers[0].append(gone, rows(2), 4)).toThrowError(
      isError({ code: "ERR_SPINDLEKV_DISPOSED", op: "append" }),
    );
  });
});

describe("other calls refuse", () => {
  const prompt = makePrompt(shape, 12);

  it("a fork's method that is none", async () => {
    using cache = await filledCache(device, prompt);
    expect(() => cache.fork({ method: "full" as never })).toThrowError(
      isError({ code: "ERR_SPINDLEKV_ARGUMENT", op: "fork", param: "method" }),
    );
  });

  it("layers that hold different numbers of tokens, when compressed", async () => {
    const method = snapKV({ tokens: 4, window: 2 });
    using cache = await filledCache(device, prompt, { method }, 2);
    cache.layers[1].append(new Float32Array(16), new Float32Array(16), 1);
    await expect(cache.compress()).rejects.toMatchObject({
      code: "ERR_SPINDLEKV_ARGUMENT",
      param: "cache",
    });
  });

  it("options of compress() that are of no use", async () => {
    const method = snapKV({ tokens: 4, window: 2 });
    using cache = await filledCache(device, prompt, { method }, 2);
    const before = await contentsOf(cache);
    for (const [options, param] of [
      [null, "options"],
      [{ signal: {} }, "signal"],
      [{ onProgress: 5 }, "onProgress"],
      [{ onScores: "yes" }, "onScores"],
    ] as const) {
      await expect(cache.compress(options as never), param).rejects.toMatchObject({
        code: "ERR_SPINDLEKV_ARGUMENT",
        op: "compress",
        param,
      });
    }
    expect(await contentsOf(cache)).toBe(before);
  });

  it("heads and layers that are not there", async () => {
    using cache = await filledCache(device, prompt);
    for (const [layer, head, param] of [
      [2, 0, "layer"],
      [-1, 0, "layer"],
      [0, 2, "head"],
      [0, 0.5, "head"],
    ] as const) {
      await expect(readStoredSlots(cache, layer, head)).rejects.toMatchObject({
        code: "ERR_SPINDLEKV_ARGUMENT",
        param,
      });
    }
  });
});

describe("compose refuses", () => {
  const parts = {
    id: "mine",
    target: { keep: 0.5 },
    score: position(),
    budget: uniform(),
    select: sinksAndRecent(),
  } as const;
  const bad: [string, unknown, string][] = [
    ["no options", undefined, "options"],
    ["no id", { ...parts, id: undefined }, "id"],
    ["an id with capitals", { ...parts, id: "Mine" }, "id"],
    ["an id with spaces", { ...parts, id: "my own" }, "id"],
    ["two targets", { ...parts, target: { keep: 0.5, tokens: 4 } }, "target"],
    ["an empty target", { ...parts, target: {} }, "target"],
    ["keep 0", { ...parts, target: { keep: 0 } }, "keep"],
    ["keep above 1", { ...parts, target: { keep: 1.5 } }, "keep"],
    ["keep NaN", { ...parts, target: { keep: Number.NaN } }, "keep"],
    ["bytes 0", { ...parts, target: { bytes: 0 } }, "bytes"],
    ["bytes that are no integer", { ...parts, target: { bytes: 1.5 } }, "bytes"],
    ["tokens -1", { ...parts, target: { tokens: -1 } }, "tokens"],
    ["a target without score", { ...parts, score: undefined }, "parts"],
    ["a target without budget", { ...parts, budget: undefined }, "parts"],
    ["a target without select", { ...parts, select: undefined }, "parts"],
    ["a score by name", { ...parts, score: "position" }, "score"],
    ["a budget that is none", { ...parts, budget: {} }, "budget"],
    ["a codec by name", { ...parts, codec: "codebook" }, "codec"],
    ["a schedule that is none", { ...parts, schedule: "never" }, "schedule"],
    ["positions that are none", { ...parts, positions: "relative" }, "positions"],
  ];
  for (const [name, options, param] of bad) {
    it(name, () => {
      expect(() => compose(options as never)).toThrowError(
        isError({ code: "ERR_SPINDLEKV_ARGUMENT", op: "compose", param }),
      );
    });
  }
});
