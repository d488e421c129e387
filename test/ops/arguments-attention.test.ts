// Argument rules of the ops that read stored slots (core/ops.h, core/check): one test per rule.
import { describeRules, type Rule } from "../harness/arguments.ts";
import type { Arena } from "../harness/tensors.ts";

const SLOTS = 5;
const D = 16;

const zeros = (arena: Arena, dtype: "f32" | "f16" | "i32" | "u16", ...shape: number[]) =>
  arena.input(dtype, shape, new Float32Array(shape.reduce((a, b) => a * b, 1)));

function rawRun(arena: Arena) {
  return {
    codec: "raw",
    slots: SLOTS,
    rotated: false,
    k: zeros(arena, "f16", SLOTS, D),
    v: zeros(arena, "f16", SLOTS, D),
    positions: zeros(arena, "i32", SLOTS),
    mask: zeros(arena, "u16", SLOTS),
    beta: zeros(arena, "f32", SLOTS),
  };
}

function codebookRun(arena: Arena) {
  return {
    codec: "codebook",
    slots: SLOTS,
    rotated: false,
    k: zeros(arena, "f16", 2, D),
    v: zeros(arena, "f16", 3, D),
    kRef: zeros(arena, "u16", SLOTS),
    vRef: zeros(arena, "u16", SLOTS),
    kMagnitude: zeros(arena, "f16", SLOTS),
    vMagnitude: zeros(arena, "f16", SLOTS),
    positions: zeros(arena, "i32", SLOTS),
  };
}

// Two KV heads with two query heads each: a raw and a codebook run in the first, none in the second.
function attention(arena: Arena, queries: number) {
  return {
    q: zeros(arena, "f32", 4, queries, D),
    heads: [[rawRun(arena), codebookRun(arena)], []],
    scale: 1,
    queryPosition: 9,
    ropeQueryPosition: 9,
    reindex: false,
    rope: { table: zeros(arena, "f32", 32, D / 2, 2), style: "neox" },
  };
}

const set = (breaks: string, param: string, members: Record<string, unknown>): Rule => ({
  breaks,
  param,
  change: () => members,
});
const tensor = (
  breaks: string,
  path: string,
  param: string,
  dtype: "f32" | "f16" | "i32" | "u16",
  ...shape: number[]
): Rule => ({ breaks, param, change: (arena) => ({ [path]: zeros(arena, dtype, ...shape) }) });

const isOutput = (name: string) =>
  ["lse", "scoreSum", "sum", "sumSq", "max", "entropy"].includes(name);

// Of stored slots and the angles that turn them.
const runRules: Rule[] = [
  set("no KV head", "heads", { heads: [] }),
  set("heads that are no array", "heads", { heads: 3 }),
  set("a head that is no array", "heads[0]", { heads: [{}] }),
  set("a run that is no object", "heads[0][0]", { heads: [[7]] }),
  set("an unknown codec", "heads[0][0].codec", { "heads.0.0.codec": "zip" }),
  set("more slots than positions", "heads[0][0].slots", { "heads.0.0.slots": SLOTS + 1 }),
  set("negative slots", "heads[0][0].slots", { "heads.0.0.slots": -1 }),
  set("a broken number of slots", "heads[0][0].slots", { "heads.0.0.slots": 1.5 }),
  set("rotated that is no boolean", "heads[0][0].rotated", { "heads.0.0.rotated": 1 }),
  tensor("keys of another dtype than the run before", "heads.0.1.k", "heads[0][1].k", "f32", 2, D),
  tensor("fewer key rows than slots", "heads.0.0.k", "heads[0][0].k", "f16", SLOTS - 1, D),
  tensor("fewer value rows than slots", "heads.0.0.v", "heads[0][0].v", "f16", SLOTS - 1, D),
  tensor("a mask shorter than the slots", "heads.0.0.mask", "heads[0][0].mask", "u16", SLOTS - 1),
  tensor("betas fewer than the slots", "heads.0.0.beta", "heads[0][0].beta", "f32", SLOTS - 1),
  tensor("references fewer than the slots", "heads.0.1.kRef", "heads[0][1].kRef", "u16", SLOTS - 1),
  tensor("references of two widths", "heads.0.1.vRef", "heads[0][1].vRef", "i32", SLOTS),
  tensor(
    "magnitudes of another dtype",
    "heads.0.1.kMagnitude",
    "heads[0][1].kMagnitude",
    "f32",
    SLOTS,
  ),
  tensor("a codebook run without codewords", "heads.0.1.k", "k_codewords", "f16", 0, D),
  {
    breaks: "keys whose rows are apart",
    param: "heads[0][0].k",
    change: (arena) => ({
      "heads.0.0.k": arena.input("f16", [SLOTS, D], new Float32Array(SLOTS * D), {
        layout: "padded",
      }),
    }),
  },
  {
    breaks: "keys that do not start at a multiple of 16 bytes",
    param: "heads[0][0].k",
    change: (arena) => ({
      "heads.0.0.k": zeros(arena, "f16", SLOTS * D + 4).view({ offset: 4, shape: [SLOTS, D] }),
    }),
  },
  set("reindexing over keys that are rotated", "rotated", {
    reindex: true,
    "heads.0.0.rotated": true,
  }),
  set("reindex that is no boolean", "reindex", { reindex: "yes" }),
  set("an unknown RoPE style", "rope.style", { "rope.style": "gptj" }),
  tensor(
    "a table that turns more dims than there are",
    "rope.table",
    "rope.n_rot",
    "f32",
    32,
    D,
    2,
  ),
  tensor("a table without cosine and sine", "rope.table", "rope.table", "f32", 32, D / 2, 3),
  tensor("an empty table", "rope.table", "rope.table", "f32", 0, D / 2, 2),
  {
    breaks: "more slots to reindex than the RoPE table has",
    param: "slots",
    change: (arena) => ({
      reindex: true,
      ropeQueryPosition: 0,
      "rope.table": zeros(arena, "f32", 2 * SLOTS - 1, D / 2, 2),
    }),
  },
];

const sharedRules: Rule[] = [
  {
    breaks: "a head dim that is no multiple of 8",
    param: "head_dim",
    change: (arena) => ({
      heads: [[], []],
      rope: undefined,
      q: zeros(arena, "f32", 4, 2, 12),
      out: arena.output("f32", [4, 2, 12]),
    }),
  },
  tensor("query heads that the KV heads do not divide", "q", "q", "f32", 3, 2, D),
  {
    breaks: "more than 16 query heads per KV head",
    param: "group",
    change: (arena, valid) => ({
      ...Object.fromEntries(
        Object.keys(valid)
          .filter((name) => isOutput(name))
          .map((name) => [name, undefined]),
      ),
      scoreMode: undefined,
      q: zeros(arena, "f32", 34, 2, D),
      out: arena.output("f32", [34, 2, D]),
    }),
  },
  tensor("keys of another head dim than q", "heads.0.0.k", "heads[0][0].k", "f16", SLOTS, 8),
  set("a scale that is not finite", "scale", { scale: Number.NaN }),
  set("a scale that is no number", "scale", { scale: "1" }),
  set("a negative query position", "queryPosition", { queryPosition: -1 }),
  set("no query position", "queryPosition", { queryPosition: undefined }),
  set("queries beyond int32 positions", "query_position", { queryPosition: 2 ** 31 - 1 }),
  set("queries beyond the RoPE table", "rope_query_position", { ropeQueryPosition: 31 }),
  ...runRules,
];

const runTensors = ["k", "v", "positions"].map((name) => `heads.0.0.${name}`);
const codebookTensors = ["k", "v", "kRef", "vRef", "kMagnitude", "vMagnitude", "positions"].map(
  (name) => `heads.0.1.${name}`,
);
const optionalRunTensors = ["heads.0.0.mask", "heads.0.0.beta"];

describeRules({
  op: "attend",
  valid: (arena) => ({
    ...attention(arena, 2),
    out: arena.output("f32", [4, 2, D]),
    lse: arena.output("f32", [4, 2]),
    causal: true,
    scoreMode: "kv-head",
    scoreSum: arena.output("f32", [2, 2 * SLOTS]),
  }),
  required: ["q", "out", ...runTensors, ...codebookTensors, "rope.table", "scoreSum"],
  optional: ["lse", ...optionalRunTensors],
  rules: [
    ...sharedRules,
    tensor("out of another dtype than q", "out", "out", "f16", 4, 2, D),
    tensor("out of another shape than q", "out", "out", "f32", 4, 3, D),
    {
      breaks: "out that is q",
      param: "out",
      change: (_, valid) => ({ out: valid.q }),
    },
    {
      breaks: "out whose rows overlap",
      param: "out",
      change: (arena) => ({
        out: arena.output("f32", [8 * D]).view({ shape: [4, 2, D], strides: [D, 8, 1] }),
      }),
    },
    tensor("lse of another shape", "lse", "lse", "f32", 4, 1),
    set("causal that is no boolean", "causal", { causal: 1 }),
    set("an unknown score mode", "scoreMode", { scoreMode: "mean" }),
    set("score sums without a mode", "scoreMode", { scoreMode: undefined }),
    tensor("score sums of the wrong number of rows", "scoreSum", "scoreSum", "f32", 4, 2 * SLOTS),
    tensor(
      "score sums with fewer columns than slots",
      "scoreSum",
      "scoreSum",
      "f32",
      2,
      2 * SLOTS - 1,
    ),
  ],
});

const secondItem = (rest: Record<string, unknown>) => (arena: Arena) => ({
  "items.1": {
    ...attention(arena, 1),
    rope: undefined,
    heads: [[], []],
    out: arena.output("f32", [4, 1, D]),
    ...rest,
  },
});

describeRules({
  op: "attendBatch",
  valid: (arena) => ({
    items: [2, 1].map((queries) => ({
      ...attention(arena, queries),
      out: arena.output("f32", [4, queries, D]),
      lse: arena.output("f32", [4, queries]),
    })),
  }),
  required: ["q", "out", "rope.table", ...runTensors, ...codebookTensors].map(
    (name) => `items.1.${name}`,
  ),
  optional: ["lse", ...optionalRunTensors].map((name) => `items.1.${name}`),
  rules: [
    set("items that are no array", "items", { items: {} }),
    set("no items", "items", { items: undefined }),
    set("an item that is no object", "items[1]", { "items.1": 3 }),
    set("an unknown codec in an item", "items[1].heads[0][1].codec", {
      "items.1.heads.0.1.codec": "zip",
    }),
    set("reindexing over keys that are rotated", "items[1].heads[0][0].rotated", {
      "items.1.reindex": true,
      "items.1.heads.0.0.rotated": true,
    }),
    set("queries of an item beyond its RoPE table", "items[1].rope_query_position", {
      "items.1.ropeQueryPosition": 32,
    }),
    set("a scale of an item that is not finite", "items[0].scale", { "items.0.scale": Infinity }),
    {
      breaks: "keys of another dtype than the item before",
      param: "items[1].dtype",
      change: (arena) =>
        secondItem({
          heads: [
            [
              {
                codec: "raw",
                k: zeros(arena, "f32", 1, D),
                v: zeros(arena, "f32", 1, D),
                positions: zeros(arena, "i32", 1),
              },
            ],
            [],
          ],
        })(arena),
    },
    {
      breaks: "queries of another dtype than the item before",
      param: "items[1].q_dtype",
      change: (arena) =>
        secondItem({ q: zeros(arena, "f16", 4, 1, D), out: arena.output("f16", [4, 1, D]) })(arena),
    },
    {
      breaks: "another head dim than the item before",
      param: "items[1].head_dim",
      change: (arena) =>
        secondItem({ q: zeros(arena, "f32", 4, 1, 24), out: arena.output("f32", [4, 1, 24]) })(
          arena,
        ),
    },
    {
      breaks: "another number of query heads per KV head than the item before",
      param: "items[1].group",
      change: (arena) =>
        secondItem({ q: zeros(arena, "f32", 2, 1, D), out: arena.output("f32", [2, 1, D]) })(arena),
    },
  ],
});

describeRules({
  op: "windowScores",
  valid: (arena) => ({
    ...attention(arena, 2),
    norm: "sum",
    sum: arena.output("f32", [4, 2 * SLOTS]),
    sumSq: arena.output("f32", [4, 2 * SLOTS]),
    max: arena.output("f32", [4, 2 * SLOTS]),
    entropy: arena.output("f32", [4]),
    lse: arena.output("f32", [4, 2]),
    nonfinite: arena.output("i32", [1]),
    queryWeights: zeros(arena, "f32", 2),
    entropyContext: true,
  }),
  required: ["q", ...runTensors, ...codebookTensors, "rope.table"],
  optional: [
    ...optionalRunTensors,
    ...["sum", "sumSq", "max", "entropy", "lse", "nonfinite", "queryWeights"],
  ],
  rules: [
    ...sharedRules,
    {
      breaks: "no query",
      param: "queries",
      change: (arena) => ({
        ...{ q: zeros(arena, "f32", 4, 0, D), lse: undefined, queryWeights: undefined },
      }),
    },
    set("an unknown norm", "norm", { norm: "mean" }),
    tensor("fewer weights than queries", "queryWeights", "queryWeights", "f32", 1),
    set("entropyContext that is no boolean", "entropyContext", { entropyContext: 1 }),
    tensor("sums of the wrong number of rows", "sum", "sum", "f32", 2, 2 * SLOTS),
    tensor("sums with fewer columns than slots", "sum", "sum", "f32", 4, 2 * SLOTS - 1),
    tensor("maxima with fewer columns than slots", "max", "max", "f32", 4, 2 * SLOTS - 1),
    tensor("squares of another stride than sums", "sumSq", "sumSq", "f32", 4, 2 * SLOTS + 2),
    tensor("entropies of the wrong number", "entropy", "entropy", "f32", 2),
    tensor("lse of another shape", "lse", "lse", "f32", 4, 3),
    tensor("two counters", "nonfinite", "nonfinite", "i32", 2),
  ],
});

describeRules({
  op: "keyStats",
  valid: (arena) => {
    const { heads, rope, reindex } = attention(arena, 1);
    const rows = (name: string) => arena.output("f32", [2, 2 * SLOTS], { name });
    return {
      ...{ heads, rope, reindex },
      ...{ kNorm: rows("kNorm"), cosToMean: rows("cosToMean") },
      ...{ vNorm: rows("vNorm"), vL1: rows("vL1") },
      nonfinite: arena.output("i32", [1], { data: [0] }),
    };
  },
  required: [...runTensors, ...codebookTensors, "rope.table"],
  optional: [...optionalRunTensors, "kNorm", "cosToMean", "vNorm", "vL1", "nonfinite"],
  rules: [
    ...runRules,
    tensor("values of another head dim than keys", "heads.0.0.v", "heads[0][0].v", "f16", SLOTS, 8),
    {
      breaks: "a head dim that is no multiple of 8",
      param: "head_dim",
      change: (arena) => ({
        heads: [
          [
            {
              codec: "raw",
              k: zeros(arena, "f16", SLOTS, 12),
              v: zeros(arena, "f16", SLOTS, 12),
              positions: zeros(arena, "i32", SLOTS),
            },
          ],
          [],
        ],
        rope: undefined,
      }),
    },
    {
      breaks: "a key beyond the RoPE table",
      param: "runs[0]",
      change: (arena) => ({
        "heads.0.0.positions": arena.input("i32", [SLOTS], new Int32Array(SLOTS).fill(32)),
      }),
    },
    tensor("norms of the wrong number of rows", "kNorm", "kNorm", "f32", 4, 2 * SLOTS),
    tensor("norms with fewer columns than slots", "vNorm", "vNorm", "f32", 2, 2 * SLOTS - 1),
    tensor("cosines of another stride", "cosToMean", "cosToMean", "f32", 2, 2 * SLOTS + 2),
    tensor("two counters", "nonfinite", "nonfinite", "i32", 2),
  ],
});
