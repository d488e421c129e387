/** Decode of 16 sequences that share a long prefix, in one call and one by one. */
import { attendBatchCase } from "../../cases/attend-batch.ts";
import { contest } from "../../harness/contest.ts";
import { goalOf } from "../../harness/goal.ts";
import type { Goal, SettingResult } from "../../harness/result.ts";
import { Workbench } from "../../harness/workbench.ts";
import { type CpuJob, copiesOf, scheduleOf } from "./job.ts";

/** Llama-3-8B; the other shapes, with fewer query heads a KV head, are lines beside it. */
const kGoalShape = "shared-16k";

export const sharedPrefixJob: CpuJob = {
  name: "shared-prefix",
  op: attendBatchCase.op,
  what: attendBatchCase.what,
  async run(run) {
    const settings: SettingResult[] = [];
    const goals: Goal[] = [];
    for (const [shape, sizes] of Object.entries(attendBatchCase.shapes)) {
      using bench = new Workbench(run.device);
      const bytes = attendBatchCase.bytes(sizes);
      const copies = copiesOf(run, bytes);
      const { arms, check } = await attendBatchCase.setup(bench, sizes, copies);
      await check();
      const setting = await contest({
        ...run,
        abilities: ["read"],
        setting: { shape, sizes, bytes, flops: attendBatchCase.flops(sizes), facts: { copies } },
        arms,
        schedule: scheduleOf(run, { rounds: 15, repeats: 2, warmUp: 1, seconds: 10 }),
      });
      settings.push(setting);
      if (shape !== kGoalShape) continue;
      const what = "times faster than 16 separate attends";
      goals.push(goalOf({ what, atLeast: 5 }, setting.arms[1].ratioToFirst!));
    }
    return { settings, goals };
  },
};
