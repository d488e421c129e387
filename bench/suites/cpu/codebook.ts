/** How long a layer's codebooks take to build. */
import { buildCodebookCase } from "../../cases/build-codebook.ts";
import { contest } from "../../harness/contest.ts";
import { goalOf } from "../../harness/goal.ts";
import { type CpuJob, scheduleOf } from "./job.ts";

const kShape = "layer-8k";
const kMostSeconds = 3;
const kCopies = 2; // 16 MiB of rows each; the products take far longer than reading them

export const codebookJob: CpuJob = {
  name: "codebook-8k",
  op: buildCodebookCase.op,
  what: buildCodebookCase.what,
  async run(run) {
    const sizes = buildCodebookCase.shapes[kShape];
    const { arms, check, facts = {} } = await buildCodebookCase.setup(run.bench, sizes, kCopies);
    await check();
    const setting = await contest({
      ...run,
      abilities: ["copy", "fma"],
      setting: {
        shape: kShape,
        sizes,
        bytes: buildCodebookCase.bytes(sizes),
        flops: buildCodebookCase.flops(sizes),
        facts: { copies: kCopies, ...facts },
      },
      arms,
      schedule: scheduleOf(run, { rounds: 5, repeats: 1, warmUp: 1, seconds: 25 }),
    });
    const { median, low, high, count } = setting.arms[0].milliseconds;
    const seconds = { median: median / 1000, low: low / 1000, high: high / 1000, count };
    const what = "keys and values of 8 KV heads, 8k tokens";
    return {
      settings: [setting],
      goals: [goalOf({ what, unit: "s", atMost: kMostSeconds }, seconds)],
    };
  },
};
