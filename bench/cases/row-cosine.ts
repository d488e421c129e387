/** row_cosine: the residual stream before and after a layer's attention, as SqueezeAttention compares them. */
import { type RowCosineParams, rowCosine } from "spindlekv";
import { compareExact } from "../../test/harness/compare.ts";
import { rowCosineTwin } from "../../test/oracle/row-cosine.ts";
import { type BenchCase, kPortable, times } from "../harness/case.ts";

interface CosineShape {
  readonly [axis: string]: number;
  readonly rows: number;
  readonly width: number;
}

export const rowCosineCase: BenchCase<CosineShape> = {
  op: "rowCosine",
  what: "f32 rows, cosines and their sum",
  shapes: { "chunk-512": { rows: 512, width: 4096 } },
  bytes: ({ rows, width }) => 2 * 4 * rows * width + 4 * rows,
  flops: ({ rows, width }) => 6 * rows * width,
  yardstick: "read",
  baseline: kPortable,
  setup(bench, { rows, width }, copies) {
    const [a, b] = times(2, () => bench.normals(rows * width));
    const inputs = times(copies, () => ({
      a: bench.from("f32", [rows, width], a),
      b: bench.from("f32", [rows, width], b),
      cosines: bench.zeros("f32", [rows]),
      sum: bench.zeros("f32", [1]),
    })) satisfies RowCosineParams[];
    return {
      arms: [{ name: "cosines", runs: inputs.map((params) => () => rowCosine(params)) }],
      async check() {
        const [input] = inputs;
        rowCosine(input);
        const some = 4;
        const first = (data: Float32Array) => data.subarray(0, some * width);
        const expected = rowCosineTwin({ a: first(a), b: first(b), rows: some, width });
        const got = await input.cosines.view({ shape: [some] }).read();
        compareExact("cosines", got, expected.cosines);
      },
    };
  },
};
