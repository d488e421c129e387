// Argument rules of append_kv, compact and rope: one test per rule.
import { describeRules, type Rule } from "../harness/arguments.ts";
import type { Arena } from "../harness/tensors.ts";

const D = 16;
type Kind = "f32" | "f16" | "i32" | "u16";

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

const rawRun = (arena: Arena, slots: number) => ({
  codec: "raw",
  slots,
  k: arena.output("f16", [slots, D]),
  v: arena.output("f16", [slots, D]),
  positions: arena.output("i32", [slots]),
  mask: arena.output("u16", [slots]),
  beta: arena.output("f32", [slots]),
});

const codebookRun = (arena: Arena, slots: number) => ({
  codec: "codebook",
  slots,
  kRef: arena.output("u16", [slots]),
  vRef: arena.output("u16", [slots]),
  kMagnitude: arena.output("f16", [slots]),
  vMagnitude: arena.output("f16", [slots]),
  positions: arena.output("i32", [slots]),
});

describeRules({
  op: "appendKv",
  valid: (arena) => ({
    items: [
      {
        k: zeros(arena, "f32", 3, D),
        v: zeros(arena, "f32", 3, D),
        firstPosition: 4,
        dst: rawRun(arena, 8),
        dstSlot: 2,
        keyNorms: arena.output("f32", [3]),
      },
    ],
    rotate: true,
    rope: { table: zeros(arena, "f32", 32, D / 2, 2), style: "norm" },
  }),
  required: [
    "items.0.k",
    "items.0.v",
    "items.0.dst.k",
    "items.0.dst.v",
    "items.0.dst.positions",
    "rope.table",
  ],
  optional: ["items.0.keyNorms", "items.0.dst.mask", "items.0.dst.beta"],
  rules: [
    set("items that are no list", "items", { items: {} }),
    set("an item that is no object", "items[0]", { items: [null] }),
    tensor("keys of another head dim than the run", "items.0.k", "items[0].k", "f32", 3, 8),
    tensor("values of another dtype than keys", "items.0.v", "items[0].v", "f16", 3, D),
    tensor("fewer values than keys", "items.0.v", "items[0].v", "f32", 2, D),
    tensor("fewer norms than tokens", "items.0.keyNorms", "items[0].keyNorms", "f32", 2),
    set("no first position", "items[0].firstPosition", { "items.0.firstPosition": undefined }),
    set("a negative first position", "items[0].firstPosition", { "items.0.firstPosition": -1 }),
    set("positions beyond int32", "items[0].first_position", {
      "items.0.firstPosition": 2 ** 31 - 2,
      rotate: false,
    }),
    set("positions beyond the RoPE table", "items[0].first_position", {
      "items.0.firstPosition": 30,
    }),
    set("a negative slot", "items[0].dstSlot", { "items.0.dstSlot": -1 }),
    set("rows beyond the run", "items[0].dst.k", { "items.0.dstSlot": 6 }),
    tensor("a mask that ends before the rows", "items.0.dst.mask", "items[0].dst.mask", "u16", 4),
    set("rotating without a table", "rope", { rope: undefined }),
    set("rotate that is no boolean", "rotate", { rotate: "yes" }),
    set("an unknown RoPE style", "rope.style", { "rope.style": "half" }),
    {
      breaks: "a codebook run",
      param: "dst.codec",
      change: (arena) => ({
        "items.0.dst": {
          ...codebookRun(arena, 8),
          k: zeros(arena, "f16", 2, D),
          v: zeros(arena, "f16", 2, D),
        },
      }),
    },
    {
      breaks: "a head dim that is no multiple of 8",
      param: "head_dim",
      change: (arena) => ({
        "items.0.k": zeros(arena, "f32", 3, 12),
        "items.0.v": zeros(arena, "f32", 3, 12),
        "items.0.dst.k": arena.output("f16", [8, 12]),
        "items.0.dst.v": arena.output("f16", [8, 12]),
      }),
    },
    {
      breaks: "rows that reach into each other",
      param: "k_stride_token",
      change: (arena) => ({
        "items.0.k": zeros(arena, "f32", 3 * D).view({ shape: [3, D], strides: [8, 1] }),
      }),
    },
  ],
});

describeRules({
  op: "compact",
  valid: (arena) => ({
    items: [
      {
        src: rawRun(arena, 6),
        dst: rawRun(arena, 5),
        indices: arena.input("i32", [3], [0, 2, 5]),
        maskOverride: zeros(arena, "u16", 3),
        indexBase: 0,
        dstSlot: 1,
      },
      {
        src: codebookRun(arena, 6),
        dst: codebookRun(arena, 5),
        indices: arena.input("i32", [2], [1, 2]),
      },
    ],
  }),
  required: [
    ...["src.k", "src.v", "src.positions", "dst.k", "dst.v", "dst.positions", "indices"].map(
      (p) => `items.0.${p}`,
    ),
    ...["src.kRef", "src.vMagnitude", "dst.vRef", "dst.kMagnitude"].map((p) => `items.1.${p}`),
  ],
  optional: ["items.0.maskOverride", "items.0.src.mask", "items.0.dst.beta"],
  rules: [
    set("items that are no list", "items", { items: 5 }),
    set("an unknown codec", "items[0].src.codec", { "items.0.src.codec": "flat" }),
    set("a negative index base", "items[0].indexBase", { "items.0.indexBase": -1 }),
    set("a negative destination slot", "items[0].dstSlot", { "items.0.dstSlot": -1 }),
    set("a destination that ends too early", "items[0].dst.k", { "items.0.dstSlot": 3 }),
    tensor(
      "a mask for another number of slots",
      "items.0.maskOverride",
      "items[0].maskOverride",
      "u16",
      2,
    ),
    {
      breaks: "more indices than slots",
      param: "items[1].count",
      change: (arena) => ({
        "items.1.indices": zeros(arena, "i32", 7),
        "items.1.dst": codebookRun(arena, 8),
      }),
    },
    {
      breaks: "runs of two codecs",
      param: "dst.codec",
      change: (arena) => ({ "items.0.dst": codebookRun(arena, 5) }),
    },
    {
      breaks: "references of two widths",
      param: "dst.ref_bytes",
      change: (arena) => ({
        "items.1.dst": {
          ...codebookRun(arena, 5),
          kRef: zeros(arena, "i32", 5),
          vRef: zeros(arena, "i32", 5),
        },
      }),
    },
    {
      breaks: "slots that move onto themselves",
      param: ["items[0].dst.positions", "items[0].dst.k"],
      change: (_, valid) => {
        const { src } = (valid.items as { src: object }[])[0];
        return { "items.0.dst": src };
      },
    },
  ],
});

describeRules({
  op: "rope",
  valid: (arena) => ({
    in: zeros(arena, "f16", 2, 3, D),
    out: arena.output("f16", [2, 3, D]),
    positionsFrom: zeros(arena, "i32", 3),
    positionsTo: zeros(arena, "i32", 3),
    rope: { table: zeros(arena, "f32", 8, D / 2, 2), style: "neox" },
  }),
  required: ["in", "out", "rope.table"],
  optional: ["positionsFrom", "positionsTo"],
  rules: [
    tensor("out of another dtype", "out", "out", "f32", 2, 3, D),
    tensor("out of another shape", "out", "out", "f16", 2, 4, D),
    tensor("positions for another number of tokens", "positionsTo", "positionsTo", "i32", 2),
    tensor("positions to come from for another number", "positionsFrom", "positionsFrom", "i32", 4),
    set("no table", "rope", { rope: undefined }),
    set("no style", "rope.style", { "rope.style": undefined }),
    tensor(
      "a table that turns more dims than there are",
      "rope.table",
      "rope.n_rot",
      "f32",
      8,
      D,
      2,
    ),
    {
      breaks: "neither position",
      param: "positions_to",
      change: () => ({ positionsFrom: undefined, positionsTo: undefined }),
    },
    {
      breaks: "a head dim that is no multiple of 8",
      param: "head_dim",
      change: (arena) => ({
        in: zeros(arena, "f16", 2, 3, 12),
        out: arena.output("f16", [2, 3, 12]),
      }),
    },
    {
      breaks: "out that shares half of in",
      param: "out",
      change: (arena) => {
        const both = arena.output("f16", [3, 3, D]);
        return {
          in: both.view({ shape: [2, 3, D] }),
          out: both.view({ offset: 3 * D, shape: [2, 3, D] }),
        };
      },
    },
    {
      breaks: "out whose rows overlap",
      param: "out",
      change: (arena) => ({
        out: arena.output("f16", [6 * D]).view({ shape: [2, 3, D], strides: [D, 8, 1] }),
      }),
    },
  ],
});
