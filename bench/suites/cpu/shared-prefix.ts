/** Decode of 16 sequences that share a long prefix, in one call and one by one. */
import { type AttendParams, attend, attendBatch, type Run } from "spindlekv";
import { compareWithin } from "../../../test/harness/compare.ts";
import { times } from "../../harness/case.ts";
import { contest } from "../../harness/contest.ts";
import { goalOf } from "../../harness/goal.ts";
import type { Goal, SettingResult } from "../../harness/result.ts";
import { Workbench } from "../../harness/workbench.ts";
import { type CpuJob, copiesOf, type JobRun, scheduleOf } from "./job.ts";

const base = { sequences: 16, kvHeads: 8, headDim: 128, prefix: 16384, own: 512 };
/** Query heads per KV head; the goal is that of Llama-3-8B, the others are lines beside it. */
const kGroups = [4, 2, 1];
const kGoalGroup = 4;
/** Two ways of adding up the same values differ in the last bits of f16. */
const kTolerance = 2e-3;

async function settingOf(run: JobRun, bench: Workbench, group: number): Promise<SettingResult> {
  const { sequences, kvHeads, headDim, prefix, own } = base;
  const queryHeads = group * kvHeads;
  const rowBytes = 2 * 2 * kvHeads * headDim;
  const bytes = rowBytes * (prefix + sequences * own);
  const copies = copiesOf(run, bytes);
  const after = (head: Run): Run => ({ ...head, positions: bench.positions(own, prefix) });
  const steps = times(copies, (): AttendParams[] => {
    const shared = times(kvHeads, () => bench.run(prefix, headDim));
    return times(sequences, () => ({
      q: bench.normalF16([queryHeads, 1, headDim]),
      out: bench.zeros("f16", [queryHeads, 1, headDim]),
      heads: shared.map((head) => [head, after(bench.run(own, headDim))]),
      queryPosition: prefix + own - 1,
    }));
  });
  const [first] = steps;
  for (const params of first) attend(params);
  const alone = await Promise.all(first.map(({ out }) => out.read()));
  attendBatch({ items: first });
  for (const [i, { out }] of first.entries()) {
    compareWithin(`sequence ${i}`, (await out.read()) as Float32Array, alone[i] as Float32Array, {
      element: () => kTolerance,
    });
  }
  return contest({
    ...run,
    abilities: ["read"],
    setting: {
      shape: `group-${group}`,
      sizes: { ...base, queryHeads },
      bytes,
      flops: 4 * sequences * queryHeads * headDim * (prefix + own),
      facts: { copies },
    },
    arms: [
      { name: "attendBatch", runs: steps.map((items) => () => attendBatch({ items })) },
      {
        name: "16 attends",
        runs: steps.map((items) => () => {
          for (const params of items) attend(params);
        }),
        bytes: rowBytes * sequences * (prefix + own),
      },
    ],
    schedule: scheduleOf(run, { rounds: 15, repeats: 2, warmUp: 1, seconds: 10 }),
  });
}

export const sharedPrefixJob: CpuJob = {
  name: "shared-prefix",
  op: "attendBatch",
  what: "16 sequences with a prefix of 16k slots in common and 512 of their own, f16, keys stored after RoPE",
  async run(run) {
    const settings: SettingResult[] = [];
    const goals: Goal[] = [];
    for (const group of kGroups) {
      using bench = new Workbench(run.device);
      const setting = await settingOf(run, bench, group);
      settings.push(setting);
      if (group !== kGoalGroup) continue;
      const what = "times faster than 16 separate attends";
      goals.push(goalOf({ what, atLeast: 5 }, setting.arms[1].ratioToFirst!));
    }
    return { settings, goals };
  },
};
