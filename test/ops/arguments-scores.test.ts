// Argument rules of the ops on scores, pool_scores, reduce_group and select_topk, and of row_cosine: one test per rule.
import type { Tensor } from "../harness/api.ts";
import { describeRules, type Rule } from "../harness/arguments.ts";
import type { Arena } from "../harness/tensors.ts";

const zeros = (arena: Arena, dtype: "f32" | "i32" | "u16", ...shape: number[]) =>
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
  dtype: "f32" | "i32" | "u16",
  ...shape: number[]
): Rule => ({ breaks, param, change: (arena) => ({ [path]: zeros(arena, dtype, ...shape) }) });
const aliased: Rule = {
  breaks: "out that shares memory with in",
  param: "out",
  change: (_, valid) => {
    const out = valid.out as Tensor;
    return { out: (valid.in as Tensor).view({ shape: out.shape }) };
  },
};

describeRules({
  op: "poolScores",
  valid: (arena) => ({
    in: zeros(arena, "f32", 3, 7),
    out: arena.output("f32", [3, 7]),
    lengths: [7, 0, 5],
    kernel: 3,
    kind: "mean",
    divisor: "kernel",
  }),
  required: ["in", "out"],
  rules: [
    aliased,
    set("an even kernel", "kernel", { kernel: 4 }),
    set("a kernel of 0", "kernel", { kernel: 0 }),
    set("no kernel", "kernel", { kernel: undefined }),
    set("an unknown kind", "kind", { kind: "median" }),
    set("no kind", "kind", { kind: undefined }),
    set("an unknown divisor", "divisor", { divisor: "all" }),
    set("fewer lengths than rows", "lengths", { lengths: [7, 0] }),
    set("lengths that are no integers", "lengths", { lengths: [7, 0.5, 5] }),
    set("lengths that are no list", "lengths", { lengths: "7" }),
    set("a negative length", "lengths", { lengths: [7, -1, 5] }),
    set("a length beyond the row", "in", { lengths: [8, 0, 5] }),
    set("lengths in another typed array", "lengths", { lengths: new Float32Array(3) }),
    tensor("out with fewer rows", "out", "out", "f32", 2, 7),
    tensor("out with too short rows", "out", "out", "f32", 3, 6),
    {
      breaks: "rows that reach into each other",
      param: ["in_stride", "in"],
      change: (arena) => ({ in: zeros(arena, "f32", 21).view({ shape: [3, 7], strides: [5, 1] }) }),
    },
    {
      breaks: "columns that are apart",
      param: "in",
      change: (arena) => ({
        in: zeros(arena, "f32", 42).view({ shape: [3, 7], strides: [14, 2] }),
      }),
    },
  ],
});

describeRules({
  op: "reduceGroup",
  valid: (arena) => ({
    in: zeros(arena, "f32", 6, 7),
    out: arena.output("f32", [2, 7]),
    group: 3,
    kind: "mean",
  }),
  required: ["in", "out"],
  rules: [
    aliased,
    set("a group of 0", "group", { group: 0 }),
    set("a group of 17", "group", { group: 17 }),
    set("no group", "group", { group: undefined }),
    set("an unknown kind", "kind", { kind: "min" }),
    set("rows that are not rows times group", "in", { group: 2 }),
    tensor("in of another length", "in", "in", "f32", 6, 8),
  ],
});

describeRules({
  op: "selectTopk",
  valid: (arena) => ({
    scores: zeros(arena, "f32", 4, 9),
    lengths: [9, 9, 5, 5],
    k: [2, 3, 2, 1],
    sinks: 1,
    recent: 1,
    unionGroup: 2,
    indices: arena.output("i32", [2, 9]),
    counts: arena.output("i32", [2]),
    masks: arena.output("u16", [2, 9]),
  }),
  required: ["scores", "indices", "counts"],
  optional: ["masks"],
  rules: [
    set("a negative k", "k", { k: [2, -1, 2, 1] }),
    set("fewer ks than rows", "k", { k: [2, 3] }),
    set("no k", "k", { k: undefined }),
    set("a k that is no integer", "k", { k: [2, 3, 2, 0.5] }),
    set("fewer lengths than rows", "lengths", { lengths: [9] }),
    set("a negative length", "lengths", { lengths: [9, 9, -1, -1] }),
    set("a length beyond the row", "scores", { lengths: [10, 10, 5, 5] }),
    set("lengths that differ inside a union", "lengths", { lengths: [9, 8, 5, 5] }),
    set("negative sinks", "sinks", { sinks: -1 }),
    set("a negative recent window", "recent", { recent: -1 }),
    set("a union of 0 rows", "unionGroup", { unionGroup: 0 }),
    set("a union of 17 rows", "unionGroup", { unionGroup: 17 }),
    set("a union that does not divide the rows", "scores", { unionGroup: 3 }),
    set("pooled rows that do not divide the rows", "scores", { unionGroup: 1, poolRows: 3 }),
    set("pooling and a union at once", "union_group", { poolRows: 2, k: [3, 3] }),
    set("a floor without pooling", "floor", { floor: 2 }),
    set("a negative floor", "floor", { floor: -2 }),
    tensor("indices with fewer rows than unions", "indices", "indices", "i32", 1, 9),
    {
      breaks: "indices too short for the result",
      param: "indices",
      change: (arena) => ({ indices: arena.output("i32", [2, 5]), masks: undefined }),
    },
    tensor("counts of the wrong number", "counts", "counts", "i32", 4),
    tensor("masks with fewer rows", "masks", "masks", "u16", 1, 9),
    tensor("masks of another width than indices", "masks", "masks", "u16", 2, 8),
  ],
});

describeRules({
  op: "rowCosine",
  valid: (arena) => ({
    a: zeros(arena, "f32", 3, 20),
    b: zeros(arena, "f32", 3, 20),
    cosines: arena.output("f32", [3]),
    sum: arena.output("f32", [1], { data: [0] }),
    nonfinite: arena.output("i32", [1], { data: [0] }),
  }),
  required: ["a", "b"],
  optional: ["cosines", "sum", "nonfinite"],
  rules: [
    tensor("b with fewer rows", "b", "b", "f32", 2, 20),
    tensor("b with longer rows", "b", "b", "f32", 3, 21),
    tensor("fewer cosines than rows", "cosines", "cosines", "f32", 2),
    tensor("two sums", "sum", "sum", "f32", 2),
    tensor("a counter of floats", "nonfinite", "nonfinite", "f32", 1),
    {
      breaks: "b of another dtype than a",
      param: "b",
      change: (arena) => ({ b: arena.input("f16", [3, 20], new Float32Array(60)) }),
    },
    {
      breaks: "rows of nothing",
      param: "a",
      change: (arena) => ({ a: zeros(arena, "f32", 3, 0), b: zeros(arena, "f32", 3, 0) }),
    },
    {
      breaks: "rows that reach into each other",
      param: "a_stride",
      change: (arena) => ({
        a: zeros(arena, "f32", 60).view({ shape: [3, 20], strides: [19, 1] }),
      }),
    },
  ],
});
