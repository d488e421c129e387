/** One iteration of spherical k-means over the keys of a KV head, against scikit-learn's. */
import { nearestCodeword, reduceByLabel } from "spindlekv";
import { type Arm, times } from "../../harness/case.ts";
import { contest } from "../../harness/contest.ts";
import { goalOf } from "../../harness/goal.ts";
import type { MissingPeer } from "../../harness/peer.ts";
import type { Workbench } from "../../harness/workbench.ts";
import { type CpuJob, presentPeers, scheduleOf, startPeer } from "./job.ts";

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
    reduceByLabel({ x, labels: index, nLabels: centres, sums });
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
  async run(run) {
    const { rows, centres, headDim } = sizes;
    const peer = await startPeer(run, "kmeans.py");
    const peers = presentPeers(peer);
    for (const each of peers) await each.setup({ rows, centres, dims: headDim });
    const setting = await contest({
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
      peers,
      schedule: scheduleOf(run, { rounds: 8, repeats: 4, warmUp: 1, seconds: 25 }),
    });
    for (const each of peers) await each.dispose();
    const other = setting.arms.find((arm) => arm.peer !== undefined);
    return {
      settings: [setting],
      goals: [
        goalOf(
          { what: "times faster than scikit-learn, both f32", atLeast: 2 },
          other?.ratioToFirst ?? (peer as MissingPeer),
        ),
      ],
      ...(peers.length > 0 && { peers: peers[0].versions }),
    };
  },
};
