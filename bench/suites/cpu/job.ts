/** What a job of the suite `cpu` is: one or a few rows of the table of goals, timed in one process. */
import type { Device } from "spindlekv";
import type { Schedule } from "../../harness/interleave.ts";
import { copiesFor, type Machine } from "../../harness/machine.ts";
import type { CaseResult } from "../../harness/result.ts";
import type { Workbench } from "../../harness/workbench.ts";
import type { RunContext } from "../suite.ts";

/** What a job works with; tensors of the bench are freed after it. */
export interface JobRun {
  readonly device: Device;
  readonly machine: Machine;
  readonly bench: Workbench;
  readonly context: RunContext;
}

export type JobOutcome = Pick<CaseResult, "settings" | "goals" | "peers">;

export interface CpuJob {
  readonly name: string;
  readonly op: string;
  readonly what: string;
  readonly run: (run: JobRun) => Promise<JobOutcome>;
}

/** A schedule, or a short one that only shows that everything works. */
export function scheduleOf({ context }: JobRun, full: Schedule): Schedule {
  return context.quick ? { rounds: 3, repeats: 1, warmUp: 1, seconds: 1 } : full;
}

/** Inputs of so many bytes that go round more than the caches hold; two of them for a quick run. */
export function copiesOf({ context }: JobRun, bytes: number): number {
  return context.quick ? 2 : copiesFor(bytes);
}
