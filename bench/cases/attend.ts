/** attend: decode of one token over a layer of Llama-3-8B, plain and with fused score accumulation. */
import { type AttendParams, attend } from "spindlekv";
import { compareWithin } from "../../test/harness/compare.ts";
import { largestValueOf, logitScaleOf } from "../../test/harness/heads.ts";
import { attentionFloor, scoreBound } from "../../test/harness/tolerance.ts";
import { attendOracle } from "../../test/oracle/attend.ts";
import type { QueryValues } from "../../test/oracle/types.ts";
import { type BenchCase, kPortable, type Prepared, times } from "../harness/case.ts";
import { ropeValues, type Workbench } from "../harness/workbench.ts";

const kModes = ["query-head", "kv-head"] as const;

interface AttendShape {
  readonly [axis: string]: number;
  readonly queryHeads: number;
  readonly kvHeads: number;
  readonly headDim: number;
  readonly slots: number;
}

const layer = { queryHeads: 32, kvHeads: 8, headDim: 128 };

/** One layer of Llama-3-8B with so many slots. */
export const decodeShape = (slots: number): AttendShape => ({ ...layer, slots });

export const attendCase: BenchCase<AttendShape> = {
  op: "attend",
  what: "decode of one token, f16, keys stored after RoPE; accumulate: with score_sum of that mode",
  shapes: { "decode-8k": decodeShape(8192), "decode-32k": decodeShape(32768) },
  // K and V once, for all query heads of a KV head together.
  bytes: ({ kvHeads, headDim, slots }) => 2 * 2 * kvHeads * slots * headDim,
  flops: ({ queryHeads, headDim, slots }) => 4 * queryHeads * slots * headDim,
  yardstick: "read",
  baseline: kPortable,
  setup(bench, shape, copies): Prepared {
    const { queryHeads, kvHeads, headDim, slots } = shape;
    const table = bench.ropeTable(slots, headDim);
    const plain = times(
      copies,
      (): AttendParams => ({
        q: bench.normalF16([queryHeads, 1, headDim]),
        out: bench.zeros("f16", [queryHeads, 1, headDim]),
        heads: times(kvHeads, () => [bench.run(slots, headDim)]),
        queryPosition: slots - 1,
        rope: { table, style: "norm" },
      }),
    );
    const sums = {
      "query-head": bench.zeros("f32", [queryHeads, slots]),
      "kv-head": bench.zeros("f32", [kvHeads, slots]),
    };
    const accumulating = (mode: (typeof kModes)[number]) =>
      plain.map((params) => ({ ...params, scoreSum: sums[mode], scoreMode: mode }));
    const runsOf = (list: readonly AttendParams[]) => list.map((params) => () => attend(params));
    return {
      arms: [
        { name: "plain", runs: runsOf(plain) },
        ...kModes.map((mode) => ({
          name: `accumulate ${mode}`,
          runs: runsOf(accumulating(mode)),
        })),
      ],
      check: () => check(bench, shape, plain[0], sums),
    };
  },
};

type Sums = Readonly<Record<(typeof kModes)[number], ReturnType<Workbench["zeros"]>>>;

/** The first and the last KV head against the oracle. */
async function check(
  bench: Workbench,
  shape: AttendShape,
  params: AttendParams,
  sums: Sums,
): Promise<void> {
  const { queryHeads, kvHeads, headDim, slots } = shape;
  const group = queryHeads / kvHeads;
  attend(params);
  const out = await params.out.read();
  const scores: Record<string, ArrayLike<number>> = {};
  for (const mode of kModes) {
    sums[mode].write(new Float32Array(sums[mode].sizeBytes / 4));
    attend({ ...params, scoreSum: sums[mode], scoreMode: mode });
    scores[mode] = (await sums[mode].read()) as Float32Array;
    const again = await params.out.read();
    compareWithin(`attend, ${mode}`, again as Float32Array, out as Float32Array, {
      element: () => 0,
    });
  }
  const q = (await params.q.read()) as Float32Array;
  const rope = await ropeValues(params.rope!.table, params.rope!.style);
  for (const head of [0, kvHeads - 1]) {
    const run = params.heads[head][0];
    const rows = (data: ArrayLike<number>, size: number, count: number) =>
      Array.prototype.slice.call(data, head * size * count, (head + 1) * size * count) as number[];
    const values: QueryValues = {
      headDim,
      group,
      queries: 1,
      q: Float32Array.from(rows(q, headDim, group)),
      heads: [
        [
          {
            codec: "raw",
            rotated: true,
            slots,
            k: (await run.k.read()) as Float32Array,
            v: (await run.v.read()) as Float32Array,
            positions: (await run.positions.read()) as Int32Array,
          },
        ],
      ],
      scale: 1 / Math.sqrt(headDim),
      causal: true,
      queryPosition: params.queryPosition,
      ropeQueryPosition: params.queryPosition,
      reindex: false,
      rope,
    };
    const expected = attendOracle(values);
    const scale = logitScaleOf(values);
    const bound = attentionFloor({
      ...scale,
      dtype: "f16",
      outDtype: "f16",
      largestOutput: expected.out.reduce((a, b) => Math.max(a, Math.abs(b)), 0),
      largestValue: largestValueOf(values.heads[0]),
    });
    const name = `${bench.device.name} attend, KV head ${head}`;
    compareWithin(name, rows(out as Float32Array, headDim, group), expected.out, {
      element: () => bound,
    });
    compareWithin(`${name}, kv-head`, rows(scores["kv-head"], slots, 1), expected.kvHeadScores[0], {
      element: (i) => scoreBound(expected.kvHeadScores[0][i], group, scale),
    });
    expected.queryHeadScores.forEach((sum, g) => {
      const at = (head * group + g) * slots;
      const got = Array.prototype.slice.call(scores["query-head"], at, at + slots) as number[];
      compareWithin(`${name}, query-head ${g}`, got, sum, {
        element: (i) => scoreBound(sum[i], 1, scale),
      });
    });
  }
}
