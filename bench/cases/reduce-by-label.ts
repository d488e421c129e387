/** reduce_by_label: sums, counts and order of labelled rows. */
import { type LabelProblem, reduceByLabel } from "spindlekv";
import { compareExact } from "../../test/harness/compare.ts";
import { reduceByLabelTwin } from "../../test/oracle/reduce-by-label.ts";
import { type BenchCase, kPortable, times } from "../harness/case.ts";

interface LabelShape {
  readonly [axis: string]: number;
  readonly rows: number;
  readonly labels: number;
  readonly headDim: number;
}

export const reduceByLabelCase: BenchCase<LabelShape> = {
  op: "reduceByLabel",
  what: "f16 rows with weights and random labels",
  shapes: {
    "rows-16k": { rows: 16384, labels: 256, headDim: 128 },
    "kmeans-32k": { rows: 32768, labels: 1024, headDim: 128 },
  },
  // Rows, labels and weights in; sums, counts, offsets and order out.
  bytes: ({ rows, labels, headDim }) =>
    rows * (2 * headDim + 4 + 4 + 4) + labels * (4 * headDim + 8) + 4,
  flops: ({ rows, headDim }) => 2 * rows * headDim,
  baseline: kPortable,
  setup(bench, { rows, labels: nLabels, headDim }, copies) {
    const labels = Int32Array.from({ length: rows }, () => bench.random.integer(0, nLabels - 1));
    const weights = Float32Array.from({ length: rows }, () => bench.random.uniform());
    const inputs = times(copies, () => ({
      x: bench.normalF16([rows, headDim]),
      labels: bench.from("i32", [rows], labels),
      weights: bench.from("f32", [rows], weights),
      nLabels,
      sums: bench.zeros("f32", [nLabels, headDim]),
      counts: bench.zeros("i32", [nLabels]),
      offsets: bench.zeros("i32", [nLabels + 1]),
      order: bench.zeros("i32", [rows]),
    })) satisfies LabelProblem[];
    return {
      arms: [
        {
          name: "sums and order",
          runs: inputs.map((problem) => () => reduceByLabel({ problems: [problem] })),
        },
      ],
      async check() {
        const [problem] = inputs;
        reduceByLabel({ problems: [problem] });
        const x = await problem.x.read();
        const expected = reduceByLabelTwin({ x, headDim, labels, weights, nLabels });
        compareExact("sums", await problem.sums.read(), expected.sums);
        compareExact("offsets", await problem.offsets.read(), expected.offsets);
        compareExact("order", await problem.order.read(), expected.order);
      },
    };
  },
};
