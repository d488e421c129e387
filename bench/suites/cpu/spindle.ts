/** Decode over SpindleKV's codebooks against own full decode. */
import { attendCase } from "../../cases/attend.ts";
import { contest } from "../../harness/contest.ts";
import { goalOf } from "../../harness/goal.ts";
import { codebookArm } from "./codebook-arm.ts";
import { decodeSetting } from "./decode-setting.ts";
import { type CpuJob, scheduleOf } from "./job.ts";

const kSlots = 32768;
const kKeep = 0.2;

export const spindleJob: CpuJob = {
  name: "spindle-32k",
  op: attendCase.op,
  what:
    `decode of one token, f16; SpindleKV at ${kKeep} of the bytes with nothing evicted: every slot refers to ` +
    "codewords of keys before RoPE and of values, at random",
  async run(run) {
    const { setting: own, arms, sizes, copies } = await decodeSetting(run, "spindle-32k", kSlots);
    const setting = await contest({
      ...run,
      abilities: ["read"],
      setting: { ...own, facts: { ...own.facts, keep: kKeep } },
      arms: [
        codebookArm(run.bench, sizes, { name: "SpindleKV", keep: kKeep, copies }),
        { ...arms[0], name: "full" },
      ],
      schedule: scheduleOf(run, { rounds: 30, repeats: 4, warmUp: 2, seconds: 15 }),
    });
    const what = `times faster than own full decode, keep ${kKeep}`;
    return {
      settings: [setting],
      goals: [goalOf({ what, atLeast: 3.5 }, setting.arms[1].ratioToFirst!)],
    };
  },
};
