/** Speed-up of a decode step against the bytes that are kept. */
import { type AttendParams, attend } from "spindlekv";
import { attendCase, decodeShape } from "../../cases/attend.ts";
import { type Arm, times } from "../../harness/case.ts";
import { contest } from "../../harness/contest.ts";
import type { Workbench } from "../../harness/workbench.ts";
import { codebookArm } from "./codebook-arm.ts";
import { type CpuJob, scheduleOf } from "./job.ts";

const kSlots = 32768;
const kKeeps = [0.5, 0.3, 0.2, 0.1];
const kCopies = 3; // the arms together go through more than any cache between two calls of one

/** Decode over the slots that an eviction left. */
function evictedArm(bench: Workbench, keep: number): Arm {
  const sizes = decodeShape(Math.round(keep * kSlots));
  const { queryHeads, kvHeads, headDim, slots } = sizes;
  const table = bench.ropeTable(kSlots, headDim);
  const inputs = times(
    kCopies,
    (): AttendParams => ({
      q: bench.normalF16([queryHeads, 1, headDim]),
      out: bench.zeros("f16", [queryHeads, 1, headDim]),
      heads: times(kvHeads, () => [bench.run(slots, headDim)]),
      queryPosition: kSlots - 1,
      rope: { table, style: "norm" },
    }),
  );
  return {
    name: `evicted, keep ${keep}`,
    runs: inputs.map((params) => () => attend(params)),
    bytes: attendCase.bytes(sizes),
    flops: attendCase.flops(sizes),
  };
}

export const scalingKeptJob: CpuJob = {
  name: "scaling-kept",
  op: attendCase.op,
  what:
    "decode of one token over a 32k context, f16, against the share of the bytes that is kept: raw slots that an " +
    "eviction left, or all slots in codebooks of keys before RoPE and values",
  async run(run) {
    const { bench } = run;
    const sizes = decodeShape(kSlots);
    const setting = await contest({
      ...run,
      abilities: ["read"],
      setting: {
        shape: "kept-32k",
        sizes,
        bytes: attendCase.bytes(sizes),
        flops: attendCase.flops(sizes),
        facts: { copies: kCopies },
      },
      arms: [
        { ...evictedArm(bench, 1), name: "full" },
        ...kKeeps.map((keep) => evictedArm(bench, keep)),
        ...kKeeps.map((keep) =>
          codebookArm(bench, sizes, { keep, copies: kCopies, name: `codebooks, keep ${keep}` }),
        ),
      ],
      schedule: scheduleOf(run, { rounds: 15, repeats: 3, warmUp: 1, seconds: 15 }),
    });
    return { settings: [setting], goals: [] };
  },
};
