/**
 * nearest_codeword: new rows of a layer against the codebooks of its KV heads; kmeans-32k is the assignment of a
 * k-means iteration, whose update is the shape of that name of reduce_by_label (peer: bench/peers/kmeans.py).
 */
import { type NearestCodewordParams, nearestCodeword } from "spindlekv";
import { compareExact } from "../../test/harness/compare.ts";
import { nearestCodewordTwin } from "../../test/oracle/nearest-codeword.ts";
import { type BenchCase, kPortable, times } from "../harness/case.ts";

interface NearestShape {
  readonly [axis: string]: number;
  readonly problems: number;
  readonly rows: number;
  readonly codewords: number;
  readonly headDim: number;
}

const kChecked = 16; // rows; the twin is slow

export const nearestCodewordCase: BenchCase<NearestShape> = {
  op: "nearestCodeword",
  what: "f16 rows, normalised; index, score and norm out",
  shapes: {
    "decode-1": { problems: 16, rows: 1, codewords: 4096, headDim: 128 },
    "chunk-256": { problems: 16, rows: 256, codewords: 1024, headDim: 128 },
    "kmeans-32k": { problems: 1, rows: 32768, codewords: 1024, headDim: 128 },
  },
  // Rows and codewords in, index, score and norm out.
  bytes: ({ problems, rows, codewords, headDim }) =>
    problems * (2 * (rows + codewords) * headDim + 12 * rows),
  flops: ({ problems, rows, codewords, headDim }) => 2 * problems * rows * codewords * headDim,
  yardstick: "read",
  baseline: kPortable,
  setup(bench, { problems, rows, codewords, headDim }, copies) {
    const inputs = times(copies, () => ({
      problems: times(problems, () => ({
        x: bench.normalF16([rows, headDim]),
        codewords: bench.normalF16([codewords, headDim]),
        index: bench.zeros("i32", [rows]),
        score: bench.zeros("f32", [rows]),
        norm: bench.zeros("f32", [rows]),
      })),
    })) satisfies NearestCodewordParams[];
    return {
      arms: [{ name: "normalised", runs: inputs.map((params) => () => nearestCodeword(params)) }],
      async check() {
        nearestCodeword(inputs[0]);
        const problem = inputs[0].problems[0];
        const n = Math.min(rows, kChecked);
        const expected = nearestCodewordTwin({
          x: await problem.x.view({ shape: [n, headDim] }).read(),
          codewords: await problem.codewords.read(),
          n,
          c: codewords,
          headDim,
          normalize: true,
        });
        const first = { shape: [n] };
        compareExact("index", await problem.index.view(first).read(), expected.index);
        compareExact("score", await problem.score.view(first).read(), expected.score);
        compareExact("norm", await problem.norm.view(first).read(), expected.norm);
      },
    };
  },
};
