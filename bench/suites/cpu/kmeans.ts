/** One iteration of spherical k-means over the keys of a KV head, against scikit-learn's. */
import { nearestCodeword, reduceByLabel } from "spindlekv";
import { type Arm, times } from "../../harness/case.ts";
import { goalOf } from "../../harness/goal.ts";
import type { Workbench } from "../../harness/workbench.ts";
import { besidePeer } from "./beside-peer.ts";
import { bestOf } from "./best.ts";
import { type CpuJob, scheduleOf } from "./job.ts";

const sizes = { rows: 32768, centres: 1024, headDim: 128 };
const kCopies = 3;

/** Assignment, sums of the assigned rows, and the directions of the sums as new centres. */
function iterationArm(bench: Workbench, dtype: "f32" | "f16"): Arm {
  const { rows, centres, headDim } = sizes;
  const values = bench.normals(rows * headDim);
  const inputs = times(kCopies, () => {
    const x = bench.from(dtype, [rows, headDim], values);
    return {
      x,
      codewords: bench.from(dtype, [centres, headDim], values.subarray(0, centres * headDim)),
      index: bench.zeros("i32", [rows]),
      sums: bench.zeros("f32", [centres, headDim]),
    };
  });
  const runs = inputs.map(({ x, codewords, index, sums }) => () => {
    nearestCodeword({ problems: [{ x, codewords, index }] });
    reduceByLabel({ problems: [{ x, labels: index, nLabels: centres, sums }] });
    codewords.write(directionsOf(sums.readSync(), headDim));
  });
  return { name: `iteration ${dtype}`, runs };
}

/** Each row divided by its norm; a centre without rows stays at the origin. */
function directionsOf(rows: Float32Array, headDim: number): Float32Array {
  for (let start = 0; start < rows.length; start += headDim) {
    let square = 0;
    for (let d = start; d < start + headDim; d++) square += rows[d] * rows[d];
    const factor = square > 0 ? 1 / Math.sqrt(square) : 0;
    for (let d = start; d < start + headDim; d++) rows[d] *= factor;
  }
  return rows;
}

export const kmeansJob: CpuJob = {
  name: "kmeans",
  op: "nearestCodeword",
  what:
    "an iteration of spherical k-means: nearestCodeword, reduceByLabel and the directions of the sums; against an " +
    "iteration of KMeans (Lloyd, f32) of scikit-learn",
  run: (run) =>
    besidePeer(run, "kmeans.py", async (peer) => {
      const { rows, centres, headDim } = sizes;
      const setting = await peer.contest(
        { rows, centres, dims: headDim },
        {
          ...run,
          abilities: ["copy", "fma"],
          setting: {
            shape: "kmeans-32k",
            sizes,
            bytes: 4 * rows * headDim,
            flops: 2 * rows * centres * headDim,
            facts: { copies: kCopies },
          },
          arms: [iterationArm(run.bench, "f32"), iterationArm(run.bench, "f16")],
          schedule: scheduleOf(run, { rounds: 8, repeats: 4, warmUp: 1, seconds: 25 }),
        },
      );
      const ratio = peer.timesOurs(bestOf(setting.arms));
      return {
        settings: [setting],
        goals: [goalOf({ what: "times faster than scikit-learn, both f32", atLeast: 2 }, ratio)],
      };
    }),
};
