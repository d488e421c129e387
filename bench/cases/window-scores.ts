/** window_scores: column sums of the last queries of a prompt over a layer, as SnapKV scores slots. */
import { type WindowScoresParams, windowScores } from "spindlekv";
import { compareWithin } from "../../test/harness/compare.ts";
import { logitScaleOf } from "../../test/harness/heads.ts";
import { scoreBound } from "../../test/harness/tolerance.ts";
import type { QueryValues } from "../../test/oracle/types.ts";
import { windowScoresOracle } from "../../test/oracle/window-scores.ts";
import { type BenchCase, kPortable, times } from "../harness/case.ts";

interface WindowShape {
  readonly [axis: string]: number;
  readonly queryHeads: number;
  readonly kvHeads: number;
  readonly headDim: number;
  readonly slots: number;
  readonly window: number;
}

export const windowScoresCase: BenchCase<WindowShape> = {
  op: "windowScores",
  what: "sums over the last 32 queries of a prompt, f16",
  shapes: {
    "prompt-8k": { queryHeads: 32, kvHeads: 8, headDim: 128, slots: 8192, window: 32 },
  },
  // Keys once, sums once.
  bytes: ({ queryHeads, kvHeads, headDim, slots }) =>
    2 * kvHeads * slots * headDim + 4 * queryHeads * slots,
  // The products; exponentials are not counted.
  flops: ({ queryHeads, headDim, slots, window }) => 2 * queryHeads * window * slots * headDim,
  yardstick: "read",
  baseline: kPortable,
  setup(bench, { queryHeads, kvHeads, headDim, slots, window }, copies) {
    const inputs = times(copies, () => ({
      q: bench.normalF16([queryHeads, window, headDim]),
      heads: times(kvHeads, () => [bench.run(slots, headDim)]),
      queryPosition: slots - window,
      sum: bench.zeros("f32", [queryHeads, slots]),
    })) satisfies WindowScoresParams[];
    return {
      arms: [{ name: "sum", runs: inputs.map((params) => () => windowScores(params)) }],
      async check() {
        const [{ q, heads, queryPosition, sum }] = inputs;
        windowScores(inputs[0]);
        const [run] = heads[0];
        const values: QueryValues = {
          headDim,
          group: 1, // one query head is enough
          queries: window,
          q: await q.view({ shape: [window, headDim] }).read(),
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
          queryPosition,
          ropeQueryPosition: queryPosition,
          reindex: false,
        };
        const expected = windowScoresOracle(values).sum[0];
        const scale = logitScaleOf(values);
        compareWithin("sum", await sum.view({ shape: [slots] }).read(), expected, {
          element: (i) => scoreBound(expected[i], window, scale),
        });
      },
    };
  },
};
