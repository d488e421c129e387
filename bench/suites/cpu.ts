/** `cpu`: every row of the table of goals that a CPU can answer, and how times grow and shrink. */
import { openDevice } from "spindlekv";
import { Machine } from "../harness/machine.ts";
import { type CaseResult, describeEnvironment } from "../harness/result.ts";
import { Workbench } from "../harness/workbench.ts";
import { codebookJob } from "./cpu/codebook.ts";
import { callOverheadJob } from "./cpu/call-overhead.ts";
import { decodeJobs } from "./cpu/decode.ts";
import { torchJobs } from "./cpu/decode-torch.ts";
import { evictionJob } from "./cpu/eviction.ts";
import type { CpuJob } from "./cpu/job.ts";
import { kmeansJob } from "./cpu/kmeans.ts";
import { scalingContextJob } from "./cpu/scaling-context.ts";
import { scalingKeptJob } from "./cpu/scaling-kept.ts";
import { scalingPausesJob } from "./cpu/scaling-pauses.ts";
import { scalingStepsJob } from "./cpu/scaling-steps.ts";
import { sharedPrefixJob } from "./cpu/shared-prefix.ts";
import { spindleJob } from "./cpu/spindle.ts";
import { spindleCacheJob } from "./cpu/spindle-cache.ts";
import type { RunContext, Suite } from "./suite.ts";

const jobs: readonly CpuJob[] = [
  ...decodeJobs,
  ...torchJobs,
  spindleJob,
  evictionJob,
  codebookJob,
  spindleCacheJob,
  kmeansJob,
  sharedPrefixJob,
  callOverheadJob,
  scalingContextJob,
  scalingKeptJob,
  scalingPausesJob,
  scalingStepsJob,
];

export const cpu: Suite = { name: "cpu", jobs: jobs.map(({ name }) => name), run };

async function run(job: string, context: RunContext): Promise<CaseResult> {
  const { name, op, what, run: runJob } = jobs.find((each) => each.name === job)!;
  using device = await openDevice("cpu");
  const environment = describeEnvironment(device, context.root);
  using bench = new Workbench(device);
  const machine = await Machine.start(context.program, environment.threads);
  const outcome = await runJob({ device, machine, bench, context });
  await machine.dispose();
  return {
    suite: cpu.name,
    name,
    op,
    what,
    baseline: null,
    quick: context.quick,
    environment,
    ...outcome,
  };
}
