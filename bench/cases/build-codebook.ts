/** build_codebook: keys and values of a layer's KV heads, by greedy cover, then refined. */
import { type BuildCodebookParams, buildCodebook, type Tensor } from "spindlekv";
import { compareExact } from "../../test/harness/compare.ts";
import { buildCodebookTwin } from "../../test/oracle/build-codebook.ts";
import { type BenchCase, kPortable, times } from "../harness/case.ts";
import { clusteredRows } from "./clustered-rows.ts";

interface CodebookShape {
  readonly [axis: string]: number;
  readonly problems: number;
  readonly rows: number;
  readonly headDim: number;
  readonly centres: number;
  /** Of the first half of the problems, the keys. Cosines inside a cluster are about 1 / (1 + spread^2). */
  readonly keyTheta: number;
  readonly keySpread: number;
  readonly valueTheta: number;
  readonly valueSpread: number;
}

const kRefineRounds = 2;
const kChecked = 1024; // rows of the first problem; the twin compares all pairs, slowly

export const buildCodebookCase: BenchCase<CodebookShape> = {
  op: "buildCodebook",
  what: "f16; cover: graph, cover and codewords; refined: with two rounds of spherical k-means",
  shapes: {
    "two-heads-1k": {
      ...{ problems: 4, rows: 1024, headDim: 128, centres: 128 },
      ...{ keyTheta: 0.92, keySpread: 0.3, valueTheta: 0.92, valueSpread: 0.3 },
    },
    // The thresholds of spindleKV; cosines inside a cluster lie on both sides of them.
    "layer-8k": {
      ...{ problems: 16, rows: 8192, headDim: 128, centres: 1024 },
      ...{ keyTheta: 0.98, keySpread: 0.14, valueTheta: 0.95, valueSpread: 0.225 },
    },
  },
  // Rows in, labels, references and magnitudes out; codewords are few.
  bytes: ({ problems, rows, headDim }) => problems * rows * (2 * headDim + 4 + 2 + 2),
  // Every pair of rows once.
  flops: ({ problems, rows, headDim }) => problems * rows * (rows - 1) * headDim,
  baseline: kPortable,
  setup(bench, shape, copies) {
    const { problems, rows, headDim, centres } = shape;
    const isKeys = (problem: number) => 2 * problem < problems;
    const data = times(problems, (problem) =>
      clusteredRows(bench, rows, headDim, {
        centres,
        spread: isKeys(problem) ? shape.keySpread : shape.valueSpread,
      }),
    );
    const inputs = times(
      copies,
      (): BuildCodebookParams => ({
        problems: data.map((x, problem) => ({
          x: bench.from("f16", [rows, headDim], x),
          theta: isKeys(problem) ? shape.keyTheta : shape.valueTheta,
          labels: bench.zeros("i32", [rows]),
          leaders: bench.zeros("i32", [rows]),
          count: bench.zeros("i32", [1]),
          codewords: bench.zeros("f16", [rows, headDim]),
          refs: bench.zeros("u16", [rows]),
          magnitudes: bench.zeros("f16", [rows]),
        })),
        stages: ["cover", "emit"],
      }),
    );
    const refined = inputs.map((params) => ({ ...params, refine: kRefineRounds }));
    const runsOf = (list: readonly BuildCodebookParams[]) =>
      list.map((params) => () => buildCodebook(params));
    const n = Math.min(rows, kChecked);
    const twin = buildCodebookTwin({
      x: data[0].subarray(0, n * headDim),
      n,
      headDim,
      dtype: "f16",
      theta: shape.keyTheta,
    });
    return {
      arms: [
        { name: "cover", runs: runsOf(inputs) },
        { name: "refined", runs: runsOf(refined) },
      ],
      facts: { checkedRows: n, codewordsOfChecked: twin.count },
      async check() {
        const [whole] = inputs[0].problems;
        const first = <T extends Tensor>(tensor: T | undefined) => tensor!.view({ shape: [n] });
        const problem = {
          ...whole,
          x: whole.x!.view({ shape: [n, headDim] }),
          labels: first(whole.labels),
          refs: first(whole.refs),
          magnitudes: first(whole.magnitudes),
        };
        buildCodebook({ ...inputs[0], problems: [problem] });
        const { labels, count, codewords } = problem;
        const used = { shape: [twin.count, headDim] };
        compareExact("count", (await count!.read()) as Int32Array, [twin.count]);
        compareExact("labels", (await labels.read()) as Int32Array, twin.labels);
        compareExact(
          "codewords",
          (await codewords!.view(used).read()) as Float32Array,
          twin.codewords,
        );
      },
    };
  },
};
