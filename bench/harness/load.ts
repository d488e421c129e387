/** How busy the machine is with other things, seen while nothing of ours runs. */
import { type CpuInfo, cpus } from "node:os";
import { setTimeout as sleep } from "node:timers/promises";

const kMilliseconds = 1000;

type Times = readonly Pick<CpuInfo, "times">[];

/** Processors that were busy on average between two readings of `os.cpus()`. */
export function busyBetween(before: Times, after: Times): number {
  return after.reduce((busy, { times }, i) => {
    const start = before[i].times;
    const total = (all: CpuInfo["times"]) => all.user + all.nice + all.sys + all.idle + all.irq;
    const passed = total(times) - total(start);
    return passed > 0 ? busy + 1 - (times.idle - start.idle) / passed : busy;
  }, 0);
}

/** Processors that are busy now, over one second; near 0 on a machine that does nothing else. */
export async function busyProcessors(): Promise<number> {
  const before = cpus();
  await sleep(kMilliseconds);
  return busyBetween(before, cpus());
}
