/** attend_batch: a decode step of sequences that begin with the same prompt, in one call and one by one. */
import { type AttendParams, attend, attendBatch, type Run } from "spindlekv";
import { compareWithin } from "../../test/harness/compare.ts";
import { largestValueOf, logitScaleOf } from "../../test/harness/heads.ts";
import { attentionFloor } from "../../test/harness/tolerance.ts";
import { attendBatchOracle } from "../../test/oracle/attend-batch.ts";
import type { QueryValues, RunValues } from "../../test/oracle/types.ts";
import { type BenchCase, kPortable, type Prepared, times } from "../harness/case.ts";
import type { Workbench } from "../harness/workbench.ts";

interface BatchShape {
  readonly [axis: string]: number;
  readonly sequences: number;
  readonly queryHeads: number;
  readonly kvHeads: number;
  readonly headDim: number;
  readonly prefix: number;
  readonly own: number;
}

const step = { sequences: 16, headDim: 128, prefix: 16_384, own: 512 };
/** Bytes of K and V of one slot of all KV heads, in f16. */
const slotBytes = ({ kvHeads, headDim }: BatchShape) => 2 * 2 * kvHeads * headDim;

export const attendBatchCase: BenchCase<BatchShape> = {
  op: "attendBatch",
  what: "decode of one token of 16 sequences over a prefix that they share and slots of their own, f16; separate: a call each",
  shapes: {
    "shared-16k": { ...step, queryHeads: 32, kvHeads: 8 },
    "shared-16k-group-2": { ...step, queryHeads: 32, kvHeads: 16 },
    "shared-16k-group-1": { ...step, queryHeads: 32, kvHeads: 32 },
  },
  bytes: (shape) => slotBytes(shape) * (shape.prefix + shape.sequences * shape.own),
  flops: ({ sequences, queryHeads, headDim, prefix, own }) =>
    4 * sequences * queryHeads * headDim * (prefix + own),
  baseline: kPortable,
  setup(bench, shape, copies): Prepared {
    const batches = times(copies, () => batchOf(bench, shape));
    return {
      arms: [
        { name: "batch", runs: batches.map((items) => () => attendBatch({ items })) },
        {
          name: "separate",
          runs: batches.map((items) => () => items.forEach(attend)),
          bytes: slotBytes(shape) * shape.sequences * (shape.prefix + shape.own),
        },
      ],
      check: () => check(bench, shape, batches[0]),
    };
  },
};

function batchOf(bench: Workbench, shape: BatchShape): AttendParams[] {
  const { sequences, queryHeads, kvHeads, headDim, prefix, own } = shape;
  const prefixes = times(kvHeads, () => bench.run(prefix, headDim));
  return times(sequences, () => ({
    q: bench.normalF16([queryHeads, 1, headDim]),
    out: bench.zeros("f16", [queryHeads, 1, headDim]),
    heads: prefixes.map((shared) => [
      shared,
      { ...bench.run(own, headDim), positions: bench.positions(own, prefix) },
    ]),
    queryPosition: prefix + own - 1,
  }));
}

/** The first KV head of the first sequence and the last of the last one against the oracle, after either arm. */
async function check(
  bench: Workbench,
  shape: BatchShape,
  items: readonly AttendParams[],
): Promise<void> {
  const places = [
    { item: items[0], head: 0 },
    { item: items[shape.sequences - 1], head: shape.kvHeads - 1 },
  ];
  const values: QueryValues[] = [];
  for (const { item, head } of places) values.push(await valuesOf(shape, item, head));
  const expected = attendBatchOracle(values);
  const arms = { batch: () => attendBatch({ items }), separate: () => items.forEach(attend) };
  for (const [name, run] of Object.entries(arms)) {
    run();
    for (const [i, { item, head }] of places.entries()) {
      const bound = attentionFloor({
        ...logitScaleOf(values[i]),
        dtype: "f16",
        outDtype: "f16",
        largestOutput: expected[i].out.reduce((a, b) => Math.max(a, Math.abs(b)), 0),
        largestValue: largestValueOf(values[i].heads[0]),
      });
      const size = expected[i].out.length;
      const out = (await item.out.read()) as Float32Array;
      compareWithin(
        `${bench.device.name} attendBatch, ${name}, KV head ${head}`,
        out.subarray(head * size, (head + 1) * size),
        expected[i].out,
        { element: () => bound },
      );
    }
  }
}

/** What one KV head of an item attends with and over. */
async function valuesOf(
  { queryHeads, kvHeads, headDim }: BatchShape,
  item: AttendParams,
  head: number,
): Promise<QueryValues> {
  const group = queryHeads / kvHeads;
  const q = (await item.q.read()) as Float32Array;
  const runs: RunValues[] = [];
  for (const run of item.heads[head]) runs.push(await rowsOf(run));
  return {
    headDim,
    group,
    queries: 1,
    q: q.slice(head * group * headDim, (head + 1) * group * headDim),
    heads: [runs],
    scale: 1 / Math.sqrt(headDim),
    causal: true,
    queryPosition: item.queryPosition,
    ropeQueryPosition: item.queryPosition,
    reindex: false,
  };
}

async function rowsOf({ k, v, positions }: Run): Promise<RunValues> {
  return {
    codec: "raw",
    rotated: true,
    slots: positions.shape[0],
    k: (await k.read()) as Float32Array,
    v: (await v.read()) as Float32Array,
    positions: (await positions.read()) as Int32Array,
  };
}
