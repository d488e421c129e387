/** build_codebook: keys and values of two KV heads, by greedy cover, then refined. */
import { type BuildCodebookParams, buildCodebook } from "spindlekv";
import { compareExact } from "../../test/harness/compare.ts";
import { buildCodebookTwin } from "../../test/oracle/build-codebook.ts";
import { type BenchCase, kPortable, times } from "../harness/case.ts";
import { clusteredRows } from "./clustered-rows.ts";

interface CodebookShape {
  readonly [axis: string]: number;
  readonly problems: number;
  readonly rows: number;
  readonly headDim: number;
  readonly theta: number;
  readonly centres: number;
}

const kSpread = 0.3; // cosines of about 0.92 inside a cluster: some of it falls apart at theta = 0.92
const kRefineRounds = 2;

export const buildCodebookCase: BenchCase<CodebookShape> = {
  op: "buildCodebook",
  what: "f16; cover: graph, cover and codewords; refined: with two rounds of spherical k-means",
  shapes: {
    "two-heads-1k": { problems: 4, rows: 1024, headDim: 128, theta: 0.92, centres: 128 },
  },
  // Rows in, labels, references and magnitudes out; codewords are few.
  bytes: ({ problems, rows, headDim }) => problems * rows * (2 * headDim + 4 + 2 + 2),
  // Every pair of rows once.
  flops: ({ problems, rows, headDim }) => problems * rows * (rows - 1) * headDim,
  baseline: kPortable,
  setup(bench, { problems, rows, headDim, theta, centres }, copies) {
    const data = times(problems, () =>
      clusteredRows(bench, rows, headDim, { centres, spread: kSpread }),
    );
    const inputs = times(
      copies,
      (): BuildCodebookParams => ({
        problems: data.map((x) => ({
          x: bench.from("f16", [rows, headDim], x),
          theta,
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
    const twin = buildCodebookTwin({ x: data[0], n: rows, headDim, dtype: "f16", theta });
    return {
      arms: [
        { name: "cover", runs: runsOf(inputs) },
        { name: "refined", runs: runsOf(refined) },
      ],
      facts: { codewordsOfFirst: twin.count },
      async check() {
        buildCodebook(inputs[0]);
        const { labels, count, codewords } = inputs[0].problems[0];
        const used = { shape: [twin.count, headDim] };
        compareExact("count", (await count!.read()) as Int32Array, [twin.count]);
        compareExact("labels", (await labels!.read()) as Int32Array, twin.labels);
        compareExact(
          "codewords",
          (await codewords!.view(used).read()) as Float32Array,
          twin.codewords,
        );
      },
    };
  },
};
