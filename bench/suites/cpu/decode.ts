/** Full decode against the read bandwidth, and what accumulating the scores on the way costs. */
import { attendCase } from "../../cases/attend.ts";
import { contest } from "../../harness/contest.ts";
import { goalOf } from "../../harness/goal.ts";
import { decodeSetting } from "./decode-setting.ts";
import { type CpuJob, scheduleOf } from "./job.ts";

const kLargestRatio = 1.05;

function decodeJob(slots: number, share: number, repeats: number): CpuJob {
  const name = `decode-${slots / 1024}k`;
  return {
    name,
    op: attendCase.op,
    what: attendCase.what,
    async run(run) {
      const { setting: own, arms, check } = await decodeSetting(run, name, slots);
      await check();
      const setting = await contest({
        ...run,
        abilities: ["read"],
        setting: own,
        arms,
        schedule: scheduleOf(run, { rounds: 60, repeats, warmUp: 3, seconds: 25 }),
      });
      const [plain, ...accumulating] = setting.arms;
      const goals = [
        goalOf({ what: "share of the read bandwidth", atLeast: share }, plain.share),
        ...accumulating.map((arm) =>
          goalOf(
            { what: `${arm.name}, time over plain`, atMost: kLargestRatio },
            arm.ratioToFirst!,
          ),
        ),
      ];
      return { settings: [setting], goals };
    },
  };
}

/** Slots, share of the bandwidth asked for, calls of each arm between two readings. */
export const decodeJobs: readonly CpuJob[] = [
  decodeJob(8192, 0.75, 8),
  decodeJob(32768, 0.85, 3),
  decodeJob(131072, 0.85, 1),
];
