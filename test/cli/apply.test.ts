import { join } from "node:path";
import { describe, expect, it } from "vitest";
import { keptSlots, lastAttention, layerPlan, type Ranking, rankingScores } from "./reference.ts";
import {
  type DumpParts,
  type DumpValues,
  randomDump,
  readAll,
  runCommand,
  scratchFolder,
  writeDump,
} from "./support.ts";

const folder = scratchFolder();
const input = join(folder, "dump.safetensors");
const output = join(folder, "out.safetensors");

const shape = { layers: 3, queryHeads: 6, kvHeads: 2, tokens: 90, headDim: 16 };
const dump = randomDump({ seed: 11, shape });
/** Scores are f32; a selection is decided where the gap is wider than their rounding. */
const kDecided = 1e-5;
const kScoreTolerance = 2e-5;
const kOutputTolerance = 5e-5;

async function applied(
  method: string,
  options: object,
  values: DumpValues = dump,
  parts: DumpParts = {},
) {
  await writeDump(input, values, parts);
  const flags = ["--input", input, "--output", output, "--device", "cpu"];
  const json = JSON.stringify(options);
  const result = await runCommand("apply", "--method", method, "--options", json, ...flags);
  expect(result).toMatchObject({ status: 0, stderr: "" });
  const { tensors, metadata } = await readAll(output);
  const layers = Array.from({ length: values.shape.layers }, (_, l) => layerOf(tensors, l, values));
  return { layers, metadata, tensors };
}

type Tensors = Awaited<ReturnType<typeof readAll>>["tensors"];

/** [rows][...] of a flat tensor. */
function rowsOf(values: readonly number[], size: number): number[][] {
  return Array.from({ length: values.length / size }, (_, row) =>
    values.slice(row * size, (row + 1) * size),
  );
}

/** One layer of an output file, its padding checked and taken off. */
function layerOf(tensors: Tensors, l: number, values: DumpValues) {
  const { kvHeads, queryHeads, headDim, tokens } = values.shape;
  const get = (name: string) => {
    const tensor = tensors.get(`layers.${l}.${name}`);
    if (tensor === undefined) throw new Error(`layers.${l}.${name} is not there`);
    return tensor;
  };
  const budget = get("budget");
  expect(budget).toMatchObject({ dtype: "I32", shape: [kvHeads] });
  const longest = Math.max(...budget.values);
  const kept = get("kept");
  expect(kept).toMatchObject({ dtype: "I32", shape: [kvHeads, longest] });
  const positions = rowsOf(kept.values, longest).map((row, head) => {
    const slots = row.slice(0, budget.values[head]);
    expect(slots).toEqual(slots.toSorted((a, b) => a - b));
    expect(new Set(slots).size).toBe(slots.length);
    expect(slots.every((slot) => slot >= 0 && slot < tokens)).toBe(true);
    expect(row.slice(slots.length)).toEqual(new Array(longest - slots.length).fill(-1));
    return slots;
  });
  const rows = (name: string) => {
    const tensor = get(name);
    expect(tensor).toMatchObject({ dtype: "F32", shape: [kvHeads, longest, headDim] });
    return rowsOf(tensor.values, longest * headDim).map((head, h) => {
      const all = rowsOf(head, headDim);
      expect(
        all
          .slice(positions[h].length)
          .flat()
          .every((x) => x === 0),
      ).toBe(true);
      return all.slice(0, positions[h].length);
    });
  };
  const scores = get("scores");
  expect(scores.shape[1]).toBe(tokens);
  const bytes = get("bytes");
  expect(bytes).toMatchObject({ dtype: "I64", shape: [1] });
  const attention = get("attention_output");
  expect(attention).toMatchObject({ dtype: "F32", shape: [queryHeads, headDim] });
  const masks = tensors.get(`layers.${l}.masks`);
  return {
    positions,
    masks:
      masks && rowsOf(masks.values, longest).map((row, h) => row.slice(0, positions[h].length)),
    keys: rows("key_reconstructed"),
    values: rows("value_reconstructed"),
    scores: rowsOf(scores.values, tokens),
    attention: rowsOf(attention.values, headDim),
    bytes: bytes.values[0],
  };
}

type Layer = ReturnType<typeof layerOf>;

function expectClose(
  actual: readonly number[][],
  expected: readonly number[][],
  tolerance: number,
) {
  expect(actual.length).toBe(expected.length);
  actual.forEach((row, r) => {
    expect(row.length).toBe(expected[r].length);
    row.forEach((x, i) => {
      const wrong = Math.abs(x - expected[r][i]);
      expect(wrong, `row ${r}, element ${i}: ${x}, expected ${expected[r][i]}`).toBeLessThanOrEqual(
        tolerance * Math.max(1, Math.abs(expected[r][i])),
      );
    });
  });
}

/** Attention of the last query over what the file says is stored. */
function expectAttention(
  layer: Layer,
  l: number,
  values: DumpValues,
  about: { isBeforeRope: boolean; isReindexed: boolean },
) {
  const group = values.shape.queryHeads / values.shape.kvHeads;
  const masks = layer.masks ?? layer.positions.map((row) => row.map(() => 2 ** group - 1));
  const expected = lastAttention(values, l, { ...layer, masks, ...about });
  expectClose(layer.attention, expected, kOutputTolerance);
}

/** Rows of the dump at the kept positions. */
function rowsAt(rows: Float64Array, positions: readonly number[][], values: DumpValues) {
  const { tokens, headDim } = values.shape;
  return positions.map((slots, head) =>
    slots.map((slot) => {
      const start = (head * tokens + slot) * headDim;
      return Array.from(rows.subarray(start, start + headDim));
    }),
  );
}

function expectRawRows(layer: Layer, l: number, values: DumpValues, keys: "key" | "keyRope") {
  expect(layer.keys).toEqual(rowsAt(values.layers[l][keys], layer.positions, values));
  expect(layer.values).toEqual(rowsAt(values.layers[l].value, layer.positions, values));
}

const everything = Array.from({ length: shape.tokens }, (_, t) => t);

describe("full", () => {
  it("keeps every slot", async () => {
    const { layers, metadata, tensors } = await applied("full", {});
    expect(metadata.get("method")).toBe("full");
    expect(metadata.get("key_reconstructed_rope")).toBe("post");
    layers.forEach((layer, l) => {
      expect(layer.positions).toEqual([everything, everything]);
      expect(layer.scores.flat().every((score) => score === 0)).toBe(true);
      expectRawRows(layer, l, dump, "keyRope");
      expectAttention(layer, l, dump, { isBeforeRope: false, isReindexed: false });
    });
    expect(tensors.has("layers.0.masks")).toBe(false);
  });

  it("reports bytes that add up", async () => {
    const { layers, metadata } = await applied("full", {});
    const report = JSON.parse(metadata.get("report") ?? "");
    expect(report.native_bytes).toBe(3 * 2 * 90 * 16 * 2 * 2);
    expect(report.bytes).toBe(layers.reduce((sum, { bytes }) => sum + bytes, 0));
    expect(report.ratio).toBe(report.bytes / report.native_bytes);
    expect(report).toMatchObject({ slots: 3 * 2 * 90, tokens: 90, device: "cpu" });
  });
});

describe("methods by position", () => {
  it.each(["slidingwindow", "sliding-window"])("%s keeps the last slots", async (method) => {
    const { layers } = await applied(method, { tokens: 17 });
    layers.forEach((layer, l) => {
      expect(layer.positions).toEqual([everything.slice(-17), everything.slice(-17)]);
      expect(layer.scores).toEqual([everything, everything]);
      expectRawRows(layer, l, dump, "keyRope");
      expectAttention(layer, l, dump, { isBeforeRope: false, isReindexed: false });
    });
  });

  it.each([
    { sinks: undefined, positions: undefined },
    { sinks: 2, positions: "original" },
    { sinks: 0, positions: "reindexed" },
  ])("streamingllm keeps $sinks sinks and the last slots, $positions", async (options) => {
    const { layers, metadata } = await applied("streamingllm", { tokens: 20, ...options });
    const sinks = options.sinks ?? 4;
    const expected = [...everything.slice(0, sinks), ...everything.slice(-(20 - sinks))];
    const isReindexed = options.positions !== "original";
    expect(metadata.get("key_reconstructed_rope")).toBe(isReindexed ? "pre" : "post");
    layers.forEach((layer, l) => {
      expect(layer.positions).toEqual([expected, expected]);
      expectRawRows(layer, l, dump, isReindexed ? "key" : "keyRope");
      expectAttention(layer, l, dump, { isBeforeRope: isReindexed, isReindexed });
    });
  });
});

const snap: Ranking = {
  window: 32,
  norm: "sum",
  pool: { kind: "max", kernel: 7 },
  group: "mean",
};

interface RankedCase {
  readonly method: string;
  readonly options: Record<string, unknown>;
  readonly ranking: Ranking;
  readonly plan: "uniform" | "pyramid" | "spindle";
  readonly beta?: number;
  readonly sinks?: number;
  readonly visibility?: "head";
  /** Keys come back as they were: there is no codebook. */
  readonly isRaw?: boolean;
}

const unfold = { group: "unfold", visibility: "head" } as const;
const rankedCases: RankedCase[] = [
  { method: "snapkv", options: { tokens: 45 }, ranking: snap, plan: "uniform", isRaw: true },
  {
    method: "snap-kv",
    options: { tokens: 30, window: 8, pooling: "mean", kernel: 5, group: "max", sinks: 3 },
    ranking: { ...snap, window: 8, pool: { kind: "mean", kernel: 5 }, group: "max" },
    plan: "uniform",
    sinks: 3,
    isRaw: true,
  },
  {
    method: "snapkv",
    options: { tokens: 30, window: 16, pooling: "none", group: "sum", norm: "causalCount" },
    ranking: { window: 16, norm: "causalCount", pool: null, group: "sum" },
    plan: "uniform",
    isRaw: true,
  },
  {
    method: "snapkv",
    options: {
      tokens: 24,
      window: 8,
      pool: { kind: "mean", kernel: 3, divisor: "valid" },
      ...unfold,
    },
    ranking: {
      ...snap,
      window: 8,
      pool: { kind: "mean", kernel: 3, divisor: "valid" },
      group: "unfold",
    },
    plan: "uniform",
    visibility: "head",
    isRaw: true,
  },
  {
    method: "pyramidkv",
    options: { tokens: 28 },
    ranking: { ...snap, window: 8 },
    plan: "pyramid",
    beta: 20,
    isRaw: true,
  },
  {
    method: "pyramid-kv",
    options: { tokens: 60, beta: 4, kernel: 3, window: 10 },
    ranking: { ...snap, window: 10, pool: { kind: "max", kernel: 3 } },
    plan: "pyramid",
    beta: 4,
    isRaw: true,
  },
  {
    method: "spindlekv",
    options: { tokens: 50 },
    ranking: { ...snap, pool: { kind: "max", kernel: 11 } },
    plan: "spindle",
    beta: 0.05,
  },
  {
    method: "spindle-kv",
    options: { tokens: 70, window: 12, beta: 0.2, refine: 3, norm: "window", recentRaw: true },
    ranking: { ...snap, pool: { kind: "max", kernel: 11 }, window: 12, norm: "window" },
    plan: "spindle",
    beta: 0.2,
  },
  {
    method: "spindlekv-paper",
    options: { tokens: 44 },
    ranking: { window: 32, norm: "window", pool: null, group: "unfold" },
    plan: "spindle",
    beta: 0.05,
    visibility: "head",
  },
];

/** Keys and values that share directions, so that codebooks have something to do. */
const alike = randomDump({ seed: 12, shape, directions: 9, style: "neox" });

function cosine(a: readonly number[], b: readonly number[]): number {
  const dot = (x: readonly number[], y: readonly number[]) =>
    x.reduce((s, v, i) => s + v * y[i], 0);
  return dot(a, b) / Math.sqrt(dot(a, a) * dot(b, b));
}

function expectCodebookRows(layer: Layer, l: number, values: DumpValues) {
  const keys = rowsAt(values.layers[l].key, layer.positions, values);
  const rows = rowsAt(values.layers[l].value, layer.positions, values);
  keys.forEach((head, h) => {
    head.forEach((key, i) => {
      expect(cosine(key, layer.keys[h][i])).toBeGreaterThan(0.98 - 1e-6);
      expect(cosine(rows[h][i], layer.values[h][i])).toBeGreaterThan(0.95 - 1e-6);
    });
  });
}

describe("methods by attention keep the slots that the formulas give", () => {
  it.each(rankedCases)("$method $options", async (values) => {
    const { method, options, ranking, plan, beta = 0, sinks = 0 } = values;
    const { layers, metadata, tensors } = await applied(method, options, alike);
    expect(JSON.parse(metadata.get("options") ?? "")).toMatchObject({ tokens: options.tokens });
    expect(tensors.has("layers.0.masks")).toBe(values.visibility === "head");
    const context = shape.tokens - ranking.window - sinks;
    const total =
      shape.layers * Math.min(context, (options.tokens as number) - ranking.window - sinks);
    const budgets = layerPlan(plan, beta, total, shape.layers, context);
    let masked = 0;
    layers.forEach((layer, l) => {
      const scores = rankingScores(alike, l, ranking);
      expectClose(layer.scores, scores, kScoreTolerance);
      const rowsPerHead = scores.length / shape.kvHeads;
      for (let head = 0; head < shape.kvHeads; head++) {
        const rows = scores.slice(head * rowsPerHead, (head + 1) * rowsPerHead);
        const expected = keptSlots(rows, budgets[l], sinks, ranking.window);
        expect(expected.gap, "the data decides the selection").toBeGreaterThan(kDecided);
        expect(layer.positions[head]).toEqual(expected.positions);
        if (layer.masks) {
          expect(layer.masks[head]).toEqual(expected.masks);
          masked += expected.masks.filter((mask) => mask !== 7).length;
        }
      }
      if (values.isRaw) expectRawRows(layer, l, alike, "keyRope");
      else expectCodebookRows(layer, l, alike);
      expectAttention(layer, l, alike, { isBeforeRope: !values.isRaw, isReindexed: false });
    });
    if (values.visibility === "head") expect(masked).toBeGreaterThan(0);
  });

  it("group unfold with visibility group keeps the same union, seen by all", async () => {
    const options = { tokens: 24, window: 8, group: "unfold" };
    const byHead = await applied("snapkv", { ...options, visibility: "head" }, alike);
    const byGroup = await applied("snapkv", options, alike);
    byGroup.layers.forEach((layer, l) => {
      expect(layer.positions).toEqual(byHead.layers[l].positions);
      expect(layer.masks).toBeUndefined();
      expectAttention(layer, l, alike, { isBeforeRope: false, isReindexed: false });
    });
  });
});

describe("targets in bytes", () => {
  const long = randomDump({
    seed: 13,
    shape: { layers: 2, queryHeads: 4, kvHeads: 2, tokens: 400, headDim: 64 },
    dtype: "F16",
    directions: 40,
  });

  it.each(["slidingwindow", "streamingllm", "snapkv", "pyramidkv", "spindlekv", "spindlekv-paper"])(
    "%s takes no more than keep says",
    async (method) => {
      const { layers, metadata } = await applied(method, { keep: 0.3 }, long);
      const report = JSON.parse(metadata.get("report") ?? "");
      expect(report.native_bytes).toBe(2 * 2 * 400 * 64 * 4);
      expect(report.ratio).toBeLessThanOrEqual(0.3);
      expect(report.ratio).toBeGreaterThan(0);
      expect(report.bytes).toBe(layers.reduce((sum, { bytes }) => sum + bytes, 0));
      const slots = layers.flatMap(({ positions }) => positions.map((row) => row.length));
      expect(slots.reduce((a, b) => a + b, 0)).toBe(report.slots);
      layers.forEach(({ positions }) => {
        for (const row of positions) expect(row.at(-1)).toBe(399);
      });
    },
  );

  it("bytes: the same target as keep, in bytes", async () => {
    const byKeep = await applied("snapkv", { keep: 0.3 }, long);
    const byBytes = await applied(
      "snapkv",
      { bytes: Math.floor(0.3 * 2 * 2 * 400 * 64 * 4) },
      long,
    );
    expect(byBytes.layers).toEqual(byKeep.layers);
  });
});

describe("what a dump may hold", () => {
  const small = { layers: 2, queryHeads: 4, kvHeads: 2, tokens: 60, headDim: 16 };

  it.each(["norm", "neox"] as const)(
    "keys before RoPE alone do for every method (%s)",
    async (style) => {
      const values = randomDump({ seed: 21, shape: small, style, nRot: 8 });
      const options = { tokens: 20, window: 8 };
      const both = await applied("snapkv", options, values);
      const parts = ["query", "key", "value"] as const;
      const turned = await applied("snapkv", options, values, { parts });
      expect(turned.metadata.get("key_reconstructed_rope")).toBe("post");
      turned.layers.forEach((layer, l) => {
        expect(layer.positions).toEqual(both.layers[l].positions);
        expectClose(layer.scores, both.layers[l].scores, kScoreTolerance);
        expectClose(layer.attention, both.layers[l].attention, kOutputTolerance);
        expectClose(layer.keys.flat(), both.layers[l].keys.flat(), kScoreTolerance);
      });
    },
  );

  it.each(["snapkv", "spindlekv", "streamingllm"])(
    "queries before RoPE give what queries after it give (%s)",
    async (method) => {
      const values = randomDump({ seed: 22, shape: small });
      const options = method === "streamingllm" ? { tokens: 20 } : { tokens: 20, window: 8 };
      const post = await applied(method, options, values);
      const pre = await applied(method, options, values, { queryRope: "pre" });
      pre.layers.forEach((layer, l) => {
        expect(layer.positions).toEqual(post.layers[l].positions);
        expectClose(layer.attention, post.layers[l].attention, kOutputTolerance);
      });
    },
  );

  it("keys after RoPE need no rope metadata", async () => {
    const values = randomDump({ seed: 23, shape: small });
    const parts = ["query", "key_rope", "value"] as const;
    const about = { rope_theta: "none of these", rope_style: "is read" };
    const { layers } = await applied("snapkv", { tokens: 40 }, values, { parts, metadata: about });
    layers.forEach((layer, l) => {
      expectAttention(layer, l, values, { isBeforeRope: false, isReindexed: false });
    });
  });

  it.each(["F16", "BF16"] as const)("%s rows come back bit for bit", async (dtype) => {
    const values = randomDump({ seed: 24, shape: small, dtype });
    const { layers } = await applied("snapkv", { tokens: 20, window: 8 }, values);
    layers.forEach((layer, l) => {
      expectRawRows(layer, l, values, "keyRope");
      const scores = rankingScores(values, l, { ...snap, window: 8 });
      expectClose(layer.scores, scores, kScoreTolerance);
      layer.positions.forEach((positions, head) => {
        const expected = keptSlots([scores[head]], 12, 0, 8);
        expect(expected.gap).toBeGreaterThan(kDecided);
        expect(positions).toEqual(expected.positions);
      });
    });
  });

  it.each([
    "full",
    "slidingwindow",
    "streamingllm",
    "snapkv",
    "pyramidkv",
    "spindlekv",
    "spindlekv-paper",
  ])("a prompt of one token stays whole (%s)", async (method) => {
    const values = randomDump({ seed: 25, shape: { ...small, tokens: 1 } });
    const options = method === "full" ? {} : { tokens: 40 };
    const { layers } = await applied(method, options, values);
    layers.forEach((layer, l) => {
      expect(layer.positions).toEqual([[0], [0]]);
      const value = values.layers[l].value;
      const expected = [0, 0, 1, 1].map((head) =>
        Array.from(value.subarray(16 * head, 16 * head + 16)),
      );
      expectClose(layer.attention, expected, kOutputTolerance);
    });
  });

  it("a prompt shorter than the window stays whole", async () => {
    const values = randomDump({ seed: 26, shape: { ...small, tokens: 20 } });
    const { layers } = await applied("snapkv", { tokens: 40 }, values);
    layers.forEach(({ positions, scores }) => {
      expect(positions.map((row) => row.length)).toEqual([20, 20]);
      expect(scores.flat().every((score) => score === 0)).toBe(true);
    });
  });
});
