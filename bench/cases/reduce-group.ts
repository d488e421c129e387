/** reduce_group: scores of query heads to scores of KV heads. */
import { type ReduceGroupParams, reduceGroup } from "spindlekv";
import { compareExact } from "../../test/harness/compare.ts";
import { reduceGroupTwin } from "../../test/oracle/reduce-group.ts";
import { type BenchCase, kPortable, times } from "../harness/case.ts";

interface ReduceShape {
  readonly [axis: string]: number;
  readonly rows: number;
  readonly group: number;
  readonly slots: number;
}

export const reduceGroupCase: BenchCase<ReduceShape> = {
  op: "reduceGroup",
  what: "mean over the query heads of a KV head, f32",
  shapes: { "layer-32k": { rows: 8, group: 4, slots: 32768 } },
  bytes: ({ rows, group, slots }) => 4 * rows * (group + 1) * slots,
  flops: ({ rows, group, slots }) => rows * group * slots,
  baseline: kPortable,
  setup(bench, { rows, group, slots }, copies) {
    const scores = bench.normals(rows * group * slots);
    const inputs = times(copies, () => ({
      in: bench.from("f32", [rows * group, slots], scores),
      out: bench.zeros("f32", [rows, slots]),
      group,
      kind: "mean" as const,
    })) satisfies ReduceGroupParams[];
    return {
      arms: [{ name: "mean", runs: inputs.map((params) => () => reduceGroup(params)) }],
      async check() {
        reduceGroup(inputs[0]);
        const members = times(group, (g) => scores.subarray(g * slots, (g + 1) * slots));
        const [expected] = reduceGroupTwin({ rows: members, group, kind: "mean" });
        compareExact("mean", await inputs[0].out.view({ shape: [slots] }).read(), expected);
      },
    };
  },
};
