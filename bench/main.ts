/**
 * The benchmarks: npm run bench -- first|ops|report [--quick] [--only <job>,...]
 *
 * Every job runs in a process of its own, this program again. Results go to bench/results/cpu/ (with --quick
 * to build/bench/), tables to stdout, and docs/benchmarks.md is written anew.
 */
import { fork } from "node:child_process";
import { mkdirSync, readdirSync, writeFileSync } from "node:fs";
import { dirname, join } from "node:path";
import { isMainThread } from "node:worker_threads";
import { serveMemory } from "./harness/memory-worker.ts";
import { type CaseResult, readResults, writeResult } from "./harness/result.ts";
import { type BenchOptions, benchOptions } from "./options.ts";
import { benchmarksPage, terminalReport } from "./report.ts";
import { first } from "./suites/first.ts";
import { ops } from "./suites/ops.ts";
import type { RunContext } from "./suites/suite.ts";

const kRoot = dirname(import.meta.dirname);
const kResults = join(kRoot, "bench", "results");
const suites = { first, ops };

/** What a child process is told. */
interface JobMessage {
  readonly suite: keyof typeof suites;
  readonly job: string;
  readonly quick: boolean;
}

if (!isMainThread) serveMemory();
else if (process.env.SPINDLEKV_BENCH_JOB !== undefined) await runJob();
else await main();

async function main(): Promise<void> {
  let options: BenchOptions;
  try {
    options = benchOptions(process.argv.slice(2));
  } catch (error) {
    console.error(`bench: ${(error as Error).message}`);
    process.exit(2);
  }
  if (options.command !== "report") await runSuite(options.command, options);
  if (!options.quick) writePage();
}

async function runSuite(name: keyof typeof suites, { quick, only }: BenchOptions): Promise<void> {
  const suite = suites[name];
  const unknown = only.find((job) => !suite.jobs.includes(job));
  if (unknown !== undefined) {
    console.error(`bench: expected one of ${suite.jobs.join(", ")} for --only, got ${unknown}`);
    process.exit(2);
  }
  const folder = quick ? join(kRoot, "build", "bench", "cpu") : join(kResults, "cpu");
  const results: CaseResult[] = [];
  for (const job of suite.jobs.filter((each) => only.length === 0 || only.includes(each))) {
    const start = performance.now();
    const result = await startJob({ suite: name, job, quick });
    const path = writeResult(folder, result);
    results.push(result);
    const seconds = ((performance.now() - start) / 1000).toFixed(1);
    console.error(`bench: ${job} took ${seconds} s, ${path.slice(kRoot.length + 1)}`);
  }
  console.log(terminalReport(results));
  const busiest = Math.max(...results.map(({ environment }) => environment.load));
  if (busiest > 1) {
    console.error(`bench: the load was ${busiest.toFixed(1)} before a job; results may be wrong`);
  }
}

/** Runs a job in a child process; ends this one when it fails. */
async function startJob(message: JobMessage): Promise<CaseResult> {
  const child = fork(process.argv[1], [], {
    env: { ...process.env, SPINDLEKV_BENCH_JOB: JSON.stringify(message) },
    stdio: ["ignore", "inherit", "inherit", "ipc"],
  });
  let result: CaseResult | undefined;
  child.on("message", (value) => {
    result = value as CaseResult;
  });
  const status = await new Promise<string>((resolve, reject) => {
    child.on("error", reject);
    child.on("close", (code, signal) => resolve(signal ?? String(code)));
  });
  if (result === undefined || status !== "0") {
    console.error(`bench: ${message.job} ended with ${status}`);
    process.exit(1);
  }
  return result;
}

/** The child's side. */
async function runJob(): Promise<void> {
  const { suite, job, quick } = JSON.parse(process.env.SPINDLEKV_BENCH_JOB!) as JobMessage;
  const context: RunContext = { program: process.argv[1], root: kRoot, quick };
  const result = await suites[suite].run(job, context);
  await new Promise<void>((resolve) => process.send!(result, () => resolve()));
  process.disconnect();
}

function writePage(): void {
  mkdirSync(kResults, { recursive: true });
  const folders = readdirSync(kResults, { withFileTypes: true })
    .filter((entry) => entry.isDirectory())
    .map(({ name }) => name)
    .sort();
  const results = new Map(folders.map((name) => [name, readResults(join(kResults, name))]));
  writeFileSync(join(kRoot, "docs", "benchmarks.md"), benchmarksPage(results));
  console.error("bench: wrote docs/benchmarks.md");
}
