/** Time of a decode step against how long the process slept before it: threads then sleep too, and have to wake. */
import { setTimeout } from "node:timers/promises";
import { attendCase } from "../../cases/attend.ts";
import { contest } from "../../harness/contest.ts";
import type { SettingResult } from "../../harness/result.ts";
import { Workbench } from "../../harness/workbench.ts";
import { decodeSetting } from "./decode-setting.ts";
import { type CpuJob, scheduleOf } from "./job.ts";

const kLengths = [1, 4].map((k) => 1024 * k);
const kPausesMs = [1, 10];

export const scalingPausesJob: CpuJob = {
  name: "scaling-pauses",
  op: attendCase.op,
  what: "decode of one token, f16, one call after the other or after a pause of the whole process",
  async run(run) {
    const settings: SettingResult[] = [];
    for (const slots of kLengths) {
      using bench = new Workbench(run.device);
      const { setting, arms } = await decodeSetting(run, `decode-${slots / 1024}k`, slots, bench);
      const [{ runs }] = arms;
      const paused = kPausesMs.map((pause) => ({
        name: `after ${pause} ms`,
        runs: runs.map((call) => () => secondsAfter(pause, call)),
      }));
      settings.push(
        await contest({
          ...run,
          abilities: ["read"],
          setting,
          arms: [{ name: "in a row", runs }, ...paused],
          schedule: scheduleOf(run, { rounds: 60, repeats: 8, warmUp: 3, seconds: 15 }),
        }),
      );
    }
    return { settings, goals: [] };
  },
};

async function secondsAfter(pauseMs: number, call: () => unknown): Promise<number> {
  await setTimeout(pauseMs);
  const start = performance.now();
  call();
  return (performance.now() - start) / 1000;
}
