// Argument rules of build_codebook, nearest_codeword and reduce_by_label: one test per rule.
import { describeRules, type Rule } from "../harness/arguments.ts";
import type { Arena } from "../harness/tensors.ts";

const D = 16;
const N = 6;
type Kind = "f32" | "f16" | "i32" | "u16" | "u64";

const zeros = (arena: Arena, dtype: Kind, ...shape: number[]) =>
  arena.input(dtype, shape, new Float32Array(shape.reduce((a, b) => a * b, 1)));
const set = (breaks: string, param: string, members: Record<string, unknown>): Rule => ({
  breaks,
  param,
  change: () => members,
});
const tensor = (
  breaks: string,
  path: string,
  param: string,
  dtype: Kind,
  ...shape: number[]
): Rule => ({
  breaks,
  param,
  change: (arena) => ({ [path]: zeros(arena, dtype, ...shape) }),
});
const inFirst = (name: string) => `problems.0.${name}`;
/** A second problem that differs from the first in the given members. */
const inSecond = (breaks: string, name: string, members: (arena: Arena) => object): Rule => ({
  breaks,
  param: `problems[1].${name}`,
  change: (arena, valid) => {
    const [first] = valid.problems as object[];
    return { problems: [first, { ...first, ...members(arena) }] };
  },
});

describeRules({
  op: "buildCodebook",
  valid: (arena) => ({
    problems: [
      {
        x: zeros(arena, "f16", N, D),
        rows: arena.input("i32", [4], [0, 1, 3, 5]),
        theta: 0.9,
        graph: arena.output("u64", [N, 1]),
        labels: arena.output("i32", [4]),
        leaders: arena.output("i32", [4]),
        count: arena.output("i32", [1]),
        codewords: arena.output("f16", [4, D]),
        refs: arena.output("u16", [4]),
        magnitudes: arena.output("f16", [4]),
        cosines: arena.output("f32", [4]),
      },
    ],
    stages: ["graph", "cover", "emit"],
    maxCodewords: 0,
    refine: 1,
    nonfinite: arena.output("i32", [1], { data: [0] }),
  }),
  required: ["x", "graph", "labels", "leaders", "count", "codewords"].map(inFirst),
  optional: [...["rows", "refs", "magnitudes", "cosines"].map(inFirst), "nonfinite"],
  rules: [
    set("problems that are no list", "problems", { problems: null }),
    set("no stage", "stages", { stages: [] }),
    set("an unknown stage", "stages", { stages: ["cover", "polish"] }),
    set("stages that are no list", "stages", { stages: "cover" }),
    set("a theta above 1", "problems[0].theta", { "problems.0.theta": 1.01 }),
    set("a theta below -1", "problems[0].theta", { "problems.0.theta": -1.01 }),
    set("a theta that is not a number", "problems[0].theta", { "problems.0.theta": Number.NaN }),
    set("no theta", "problems[0].theta", { "problems.0.theta": undefined }),
    set("a negative limit of codewords", "maxCodewords", { maxCodewords: -1 }),
    set("a negative number of rounds", "refine", { refine: -1 }),
    set("a broken number of rounds", "refine", { refine: 0.5 }),
    tensor(
      "a head dim that is no multiple of 8",
      inFirst("x"),
      "problems[0].codewords",
      "f16",
      N,
      12,
    ),
    tensor("more rows than x has", inFirst("rows"), "problems[0].labels", "i32", N + 1),
    tensor("a graph of too few words", inFirst("graph"), "problems[0].graph", "u64", N, 2),
    tensor("a graph of too few rows", inFirst("graph"), "problems[0].graph", "u64", 4, 1),
    tensor("labels of the wrong number", inFirst("labels"), "problems[0].labels", "i32", N),
    tensor(
      "room for fewer leaders than rows",
      inFirst("leaders"),
      "problems[0].capacity",
      "i32",
      3,
    ),
    tensor(
      "room for fewer codewords than rows",
      inFirst("codewords"),
      "problems[0].capacity",
      "f16",
      3,
      D,
    ),
    tensor(
      "codewords of another dtype than x",
      inFirst("codewords"),
      "problems[0].codewords",
      "f32",
      4,
      D,
    ),
    tensor(
      "codewords of another head dim",
      inFirst("codewords"),
      "problems[0].codewords",
      "f16",
      4,
      8,
    ),
    tensor("two counts", inFirst("count"), "problems[0].count", "i32", 2),
    tensor("references of the wrong number", inFirst("refs"), "problems[0].refs", "u16", 5),
    tensor(
      "magnitudes of another dtype",
      inFirst("magnitudes"),
      "problems[0].magnitudes",
      "f32",
      4,
    ),
    tensor("cosines of the wrong number", inFirst("cosines"), "problems[0].cosines", "f32", 3),
    tensor("two counters", "nonfinite", "nonfinite", "i32", 2),
    inSecond("problems of two dtypes", "x", (arena) => ({ x: zeros(arena, "f32", N, D) })),
    inSecond("references of two widths", "refs", (arena) => ({ refs: zeros(arena, "i32", 4) })),
    {
      breaks: "rows that reach into each other",
      param: "x_stride",
      change: (arena) => ({
        "problems.0.x": zeros(arena, "f16", N * D).view({ shape: [N, D], strides: [8, 1] }),
      }),
    },
  ],
});

describeRules({
  op: "nearestCodeword",
  valid: (arena) => ({
    problems: [
      {
        x: zeros(arena, "f16", N, D),
        codewords: zeros(arena, "f16", 3, D),
        index: arena.output("i32", [N]),
        score: arena.output("f32", [N]),
        norm: arena.output("f32", [N]),
      },
    ],
    normalize: true,
  }),
  required: ["x", "codewords", "index"].map(inFirst),
  optional: ["score", "norm"].map(inFirst),
  rules: [
    set("problems that are no list", "problems", { problems: "one" }),
    set("a problem that is no object", "problems[0]", { problems: [1] }),
    set("normalize that is no boolean", "normalize", { normalize: 1 }),
    tensor(
      "codewords of another dtype than x",
      inFirst("codewords"),
      "problems[0].codewords",
      "f32",
      3,
      D,
    ),
    tensor(
      "codewords of another head dim",
      inFirst("codewords"),
      "problems[0].codewords",
      "f16",
      3,
      8,
    ),
    tensor("indices of the wrong number", inFirst("index"), "problems[0].index", "i32", N - 1),
    tensor("scores of the wrong number", inFirst("score"), "problems[0].score", "f32", N + 1),
    tensor("norms of the wrong number", inFirst("norm"), "problems[0].norm", "f32", N + 1),
    {
      breaks: "a head dim that is no multiple of 8",
      param: "head_dim",
      change: (arena) => ({
        "problems.0.x": zeros(arena, "f16", N, 12),
        "problems.0.codewords": zeros(arena, "f16", 3, 12),
      }),
    },
    {
      breaks: "codewords that reach into each other",
      param: "codeword_stride",
      change: (arena) => ({
        "problems.0.codewords": zeros(arena, "f16", 3 * D).view({ shape: [3, D], strides: [8, 1] }),
      }),
    },
  ],
});

describeRules({
  op: "reduceByLabel",
  valid: (arena) => ({
    problems: [
      {
        x: zeros(arena, "f16", N, D),
        labels: zeros(arena, "i32", N),
        weights: zeros(arena, "f32", N),
        nLabels: 3,
        sums: arena.output("f32", [3, D]),
        counts: arena.output("i32", [3]),
        offsets: arena.output("i32", [4]),
        order: arena.output("i32", [N]),
      },
    ],
  }),
  required: [inFirst("labels")],
  optional: ["x", "weights", "sums", "counts", "offsets", "order"].map(inFirst),
  rules: [
    set("problems that are no list", "problems", { problems: "one" }),
    set("a problem that is no object", "problems[0]", { problems: [1] }),
    set("a negative number of labels", "problems[0].nLabels", { "problems.0.nLabels": -1 }),
    set("no number of labels", "problems[0].nLabels", { "problems.0.nLabels": undefined }),
    set("sums of nothing", "problems[0].x", { "problems.0.x": undefined }),
    ...(
      [
        ["rows of another number than labels", "x", "f16", N + 1, D],
        ["weights of the wrong number", "weights", "f32", N - 1],
        ["sums of the wrong number", "sums", "f32", 2, D],
        ["sums of another head dim", "sums", "f32", 3, 8],
        ["counts of the wrong number", "counts", "i32", 4],
        ["offsets without the total", "offsets", "i32", 3],
        ["order of the wrong number", "order", "i32", N - 1],
      ] as const
    ).map(([breaks, name, dtype, ...sizes]) =>
      tensor(breaks, inFirst(name), `problems[0].${name}`, dtype, ...sizes),
    ),
    inSecond("problems of two dtypes", "x", (arena) => ({ x: zeros(arena, "f32", N, D) })),
    inSecond("problems of two head dims", "x", (arena) => ({
      x: zeros(arena, "f16", N, 8),
      sums: undefined,
    })),
    {
      breaks: "a head dim that is no multiple of 8",
      param: "head_dim",
      change: (arena) => ({
        "problems.0.x": zeros(arena, "f16", N, 12),
        "problems.0.sums": arena.output("f32", [3, 12]),
      }),
    },
  ],
});
