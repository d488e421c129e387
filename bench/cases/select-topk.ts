/** select_topk: a fifth of the slots of each KV head, for scores between all alike and a few that stand out. */
import { type SelectTopkParams, selectTopk } from "spindlekv";
import { compareExact } from "../../test/harness/compare.ts";
import { selectTopkOracle } from "../../test/oracle/select-topk.ts";
import { type BenchCase, kPortable, times } from "../harness/case.ts";

interface SelectShape {
  readonly [axis: string]: number;
  readonly rows: number;
  readonly slots: number;
  readonly keep: number;
  /** Scores are exp(sharpness * normal): the larger, the lower their entropy. */
  readonly sharpness: number;
}

const kGuarded = { sinks: 4, recent: 32 };
const kUnion = 4;
const size = { rows: 32, slots: 32768, keep: 0.2 };
const taken = ({ slots, keep }: SelectShape) => Math.round(slots * keep);

export const selectTopkCase: BenchCase<SelectShape> = {
  op: "selectTopk",
  what: "20 % of each row with sinks and a recent window; union: four rows to one, with masks",
  shapes: {
    "flat-32k": { ...size, sharpness: 0 },
    "even-32k": { ...size, sharpness: 0.1 },
    "natural-32k": { ...size, sharpness: 1 },
    "peaked-32k": { ...size, sharpness: 8 },
  },
  // Scores once, indices once.
  bytes: (shape) => 4 * shape.rows * (shape.slots + taken(shape)),
  flops: () => 0,
  yardstick: "read",
  baseline: kPortable,
  setup(bench, shape, copies) {
    const { rows, slots, sharpness } = shape;
    const scores = bench.normals(rows * slots).map((z) => Math.exp(sharpness * z));
    const k = taken(shape) - kGuarded.sinks - kGuarded.recent;
    const paramsFor = (unionGroup: number) =>
      times(copies, () => ({
        scores: bench.from("f32", [rows, slots], scores),
        lengths: slots,
        k,
        ...kGuarded,
        unionGroup,
        indices: bench.zeros("i32", [rows / unionGroup, slots]),
        counts: bench.zeros("i32", [rows / unionGroup]),
        ...(unionGroup > 1 && { masks: bench.zeros("u16", [rows / unionGroup, slots]) }),
      })) satisfies SelectTopkParams[];
    const arms = [
      { name: "rows", unionGroup: 1, inputs: paramsFor(1) },
      { name: "union", unionGroup: kUnion, inputs: paramsFor(kUnion) },
    ];
    return {
      arms: arms.map(({ name, inputs }) => ({
        name,
        runs: inputs.map((params) => () => selectTopk(params)),
      })),
      facts: { entropyBits: entropyBits(scores.subarray(0, slots)), mostBits: Math.log2(slots) },
      async check() {
        for (const { name, unionGroup, inputs } of arms) {
          selectTopk(inputs[0]);
          const members = times(unionGroup, (g) => scores.subarray(g * slots, (g + 1) * slots));
          const [expected] = selectTopkOracle({
            rows: members,
            k: members.map(() => k),
            ...kGuarded,
            unionGroup,
          });
          const [count] = await inputs[0].counts.read();
          const got = await inputs[0].indices.view({ shape: [count] }).read();
          compareExact(name, got, expected.indices);
        }
      },
    };
  },
};

/** Entropy of a row of scores taken as probabilities. */
function entropyBits(scores: Float32Array): number {
  const total = scores.reduce((sum, score) => sum + score, 0);
  return scores.reduce((bits, score) => bits - (score / total) * Math.log2(score / total), 0);
}
