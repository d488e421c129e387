// The rows of the GPU's table: which launches each is made of, its floor and its goal.
import { attendRotated, attendScore } from "./attend.mjs";
import {
  codebookGather,
  codebookProducts,
  codebookTurned,
  codebookValues,
} from "./attend-codebook.mjs";
import { compact } from "./compact.mjs";
import { codewordNorms, nearestFinish, nearestScreen } from "./nearest-codeword.mjs";
import {
  labelCount,
  labelOffsets,
  labelScan,
  labelScatter,
  labelSums,
} from "./reduce-by-label.mjs";
import { selectCut, selectWrite } from "./select-topk.mjs";
import { windowColumns, windowMerge, windowQueries, windowRows } from "./window-scores.mjs";

const layer = { kvHeads: 8, group: 4, dims: 128 };
const kRowBytes = 512; // a slot of K and V of one head, f16

const atMost = (value) => ({
  value,
  text: `<= ${value}`,
  isMet: (x) => x <= value,
  of: (x) => value / x,
});
const atLeast = (value) => ({
  value,
  text: `>= ${value}`,
  isMet: (x) => x >= value,
  of: (x) => x / value,
});

/** Decode of `items` layers over `slots` slots. */
function decode(slots, { items = 1, scoreRows = 0 } = {}) {
  const heads = items * layer.kvHeads;
  const shape = {
    heads,
    rows: layer.group,
    slots,
    dims: layer.dims,
    bytes: heads * slots * kRowBytes,
  };
  if (scoreRows === 0) return { steps: [{ model: attendRotated, shape }], copies: 1 };
  const scored = { ...shape, scoreRows, logitBytes: heads * layer.group * slots * 4 };
  return {
    steps: [
      { model: attendRotated, shape: scored },
      { model: attendScore, shape: scored },
    ],
    copies: 1,
  };
}

const fullBytes = (slots, items = 1) => items * layer.kvHeads * slots * kRowBytes;

/** Shares of the bandwidth, and times over it. */
const decodeRows = [
  { slots: 4096, name: "decode, batch 1, 17 MB a layer", goal: atMost(2), unit: "x floor" },
  { slots: 8192, name: "decode, batch 1, 34 MB a layer", goal: atMost(2), unit: "x floor" },
  { slots: 32768, name: "full decode, 134 MB a launch", goal: atLeast(0.85), unit: "of copy" },
  { slots: 131072, name: "full decode, 537 MB a launch", goal: atLeast(0.85), unit: "of copy" },
].map(({ slots, name, goal, unit }) => ({
  name,
  unit,
  goal,
  ops: { own: decode(slots) },
  value: (device, { own }) => {
    const floor = fullBytes(slots) / device.copyBytesPerSecond;
    return unit === "of copy" ? floor / own : own / floor;
  },
}));

const accumulationRows = [8192, 32768].map((slots) => ({
  name: `fused accumulation (KV head), ${slots / 1024}k`,
  unit: "x plain",
  goal: atMost(1.1),
  ops: { own: decode(slots, { scoreRows: 1 }), plain: decode(slots) },
  value: (_, { own, plain }) => own / plain,
}));

/** Stored form at a fifth of the bytes: see `spindlekv` of bench/gpu. Keys before RoPE or after it. */
function encoded(kept, codewords, keys) {
  const shape = {
    heads: 8 * layer.kvHeads,
    rows: layer.group,
    slots: kept,
    codewords,
    positions: 32768,
    dims: layer.dims,
  };
  const models = [...keys, codebookValues];
  return { steps: models.map((model) => ({ model, shape })), copies: 1 };
}

const turned = [codebookTurned];
const multiplied = [codebookProducts, codebookGather];
const storedForms = [
  { name: "all slots", op: encoded(32768, 5786, turned) },
  { name: "two slots a codeword", op: encoded(12520, 6260, turned) },
  { name: "all slots, keys after RoPE", op: encoded(32768, 5786, multiplied) },
];
const spindleRows = storedForms.flatMap(({ name, op }) => [
  {
    name: `SpindleKV 0.2, 32k, batch 8 (${name}), against own full decode`,
    unit: "x faster",
    goal: atLeast(3.5),
    ops: { own: op, full: decode(32768, { items: 8 }) },
    value: (_, { own, full }) => full / own,
  },
  {
    name: `the same (${name}), against torch SDPA, taken to be at the floor`,
    unit: "x faster",
    goal: atLeast(4),
    ops: { own: op },
    value: (device, { own }) => fullBytes(32768, 8) / device.copyBytesPerSecond / own,
  },
]);

const windowRowsOf = [32768, 131072].map((slots) => {
  const shape = { ...layer, slots, window: 64 };
  const flops = 2 * 64 * slots * layer.dims * layer.kvHeads * layer.group;
  return {
    name: `window scores, W = 64, ${slots / 1024}k`,
    unit: "x floor",
    goal: atMost(2),
    ops: {
      own: {
        steps: [windowQueries, windowRows, windowMerge, windowColumns].map((model) => ({
          model,
          shape,
        })),
        copies: 2,
      },
    },
    value: (device, { own }) =>
      own / Math.max(fullBytes(slots) / 2 / device.copyBytesPerSecond, flops / device.tensorFlops),
  };
});

const topkRows = [32768, 131072].map((columns) => {
  const shape = { rows: 256, columns, k: Math.floor(columns / 5) };
  return {
    name: `top-k, 256 rows of ${columns / 1024}k, k = 20 %`,
    unit: "x one pass",
    goal: atMost(3),
    ops: {
      own: { steps: [selectCut, selectWrite].map((model) => ({ model, shape })), copies: 1 },
    },
    value: (device, { own }) => own / ((256 * columns * 4) / device.copyBytesPerSecond),
  };
});

const compactShape = { heads: 256, kept: 6553, dims: 128 };
const compactRow = {
  name: "compaction of all layers, 32k to 20 %",
  unit: "of copy",
  goal: atLeast(0.8),
  ops: { own: { steps: [{ model: compact, shape: compactShape }], copies: 1 } },
  value: (device, { own }) => (256 * 6553 * (2 * (512 + 4) + 4)) / device.copyBytesPerSecond / own,
};

const problems = { problems: 512, rows: 32768, codewords: 1024, dims: 128 };
const sorting = [labelCount, labelScan, labelScatter].map((model) => ({
  model,
  shape: problems,
  times: 2,
}));
const summing = [labelOffsets, labelSums].map((model) => ({ model, shape: problems }));
const kmeansRow = {
  name: "k-means iteration, 512 problems of 32k, C = 1024",
  unit: "x flop floor",
  goal: atMost(2.5),
  ops: {
    own: {
      steps: [
        ...[codewordNorms, nearestScreen, nearestFinish].map((model) => ({
          model,
          shape: problems,
        })),
        ...sorting,
        ...summing,
      ],
      copies: 2,
    },
  },
  value: (device, { own }) => own / ((2 * 512 * 32768 * 1024 * 128) / device.tensorFlops),
};

/** 16 sequences, 4 rows each: row tiles of 16 rows read the prefix four times, from L2 but for the first. */
const sharedPrefix = {
  steps: [
    {
      model: attendRotated,
      shape: {
        heads: 4 * layer.kvHeads,
        rows: 16,
        slots: 16384,
        dims: layer.dims,
        bytes: fullBytes(16384) + 16 * fullBytes(512),
        l2Bytes: 4 * fullBytes(16384),
      },
    },
  ],
  copies: 1,
};
const sharedRow = {
  name: "16 sequences over a 16k prefix, 512 own, against 16 attends",
  unit: "x faster",
  goal: atLeast(5),
  ops: { own: sharedPrefix, one: decode(16384 + 512) },
  value: (_, { own, one }) => (16 * one) / own,
};

export const rows = [
  ...decodeRows,
  ...accumulationRows,
  ...spindleRows,
  ...windowRowsOf,
  ...topkRows,
  compactRow,
  kmeansRow,
  sharedRow,
];
