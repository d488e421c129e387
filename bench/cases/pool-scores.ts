/** pool_scores: smoothing the scores of a layer, a row per query head. */
import { type PoolScoresParams, poolScores } from "spindlekv";
import { compareExact } from "../../test/harness/compare.ts";
import { poolScoresTwin } from "../../test/oracle/pool-scores.ts";
import { type BenchCase, kPortable, times } from "../harness/case.ts";

interface PoolShape {
  readonly [axis: string]: number;
  readonly rows: number;
  readonly slots: number;
  readonly kernel: number;
}

const kKinds = ["mean", "max"] as const;

export const poolScoresCase: BenchCase<PoolShape> = {
  op: "poolScores",
  what: "f32 rows, by mean and by maximum",
  shapes: { "layer-32k": { rows: 32, slots: 32768, kernel: 7 } },
  bytes: ({ rows, slots }) => 2 * 4 * rows * slots,
  flops: ({ rows, slots, kernel }) => rows * slots * kernel,
  baseline: kPortable,
  setup(bench, { rows, slots, kernel }, copies) {
    const scores = bench.normals(rows * slots);
    const inputs = times(copies, () => ({
      in: bench.from("f32", [rows, slots], scores),
      out: bench.zeros("f32", [rows, slots]),
      lengths: slots,
      kernel,
    }));
    const paramsOf = (kind: (typeof kKinds)[number]) =>
      inputs.map((input): PoolScoresParams => ({ ...input, kind }));
    return {
      arms: kKinds.map((kind) => ({
        name: kind,
        runs: paramsOf(kind).map((params) => () => poolScores(params)),
      })),
      async check() {
        for (const kind of kKinds) {
          const [params] = paramsOf(kind);
          poolScores(params);
          const first = scores.subarray(0, slots);
          const [expected] = poolScoresTwin({ rows: [first], kernel, kind, divisor: "kernel" });
          const got = await inputs[0].out.view({ shape: [slots] }).read();
          compareExact(kind, got, expected);
        }
      },
    };
  },
};
