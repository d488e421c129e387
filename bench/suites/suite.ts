/** A suite: jobs that run in a process of their own each, and how their results are shown. */
import type { DeviceName } from "spindlekv";
import type { CaseResult } from "../harness/result.ts";

/** What a job needs to know of the run. */
export interface RunContext {
  /** The running program; threads are started from it. */
  readonly program: string;
  /** The repository. */
  readonly root: string;
  /** Few samples: to see that everything works, not to be believed. */
  readonly quick: boolean;
  /** Where the ops run. */
  readonly deviceName: DeviceName;
}

export interface Suite {
  readonly name: string;
  readonly jobs: readonly string[];
  readonly run: (job: string, context: RunContext) => Promise<CaseResult>;
}
