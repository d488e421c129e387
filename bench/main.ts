/**
 * The benchmarks: npm run bench -- --suite cpu|first|ops [--quick] [--only <job>,...] [--device <name>]
 *
 * Every job runs in a process of its own, this program again. Results go to bench/results/<device>/ (with --quick
 * to build/bench/), tables to stdout, and docs/benchmarks.md with its plots is written anew. A goal that is missed
 * is said, and is no failure: a benchmark is not a test. "report" only writes the page.
 */
import { fork } from "node:child_process";
import { mkdirSync, readdirSync, rmSync, writeFileSync } from "node:fs";
import { dirname, join } from "node:path";
import { isMainThread } from "node:worker_threads";
import { busyProcessors } from "./harness/load.ts";
import { serveMemory } from "./harness/memory-worker.ts";
import { type CaseResult, folderOf, readResults, writeResult } from "./harness/result.ts";
import { type BenchOptions, benchOptions } from "./options.ts";
import { benchmarksPage } from "./report.ts";
import { terminalReport } from "./report/tables.ts";
import { cpu } from "./suites/cpu.ts";
import { first } from "./suites/first.ts";
import { ops } from "./suites/ops.ts";
import type { RunContext } from "./suites/suite.ts";

const kRoot = dirname(import.meta.dirname);
const kResults = join(kRoot, "bench", "results");
/** Processors busy with other things, from which on results are not to be trusted. */
const kBusy = 0.2;
const suites = { cpu, first, ops };

/** What a child process is told. */
interface JobMessage {
  readonly suite: keyof typeof suites;
  readonly job: string;
  readonly quick: boolean;
  readonly device: BenchOptions["device"];
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

async function runSuite(name: keyof typeof suites, options: BenchOptions): Promise<void> {
  const { quick, only, device } = options;
  const suite = suites[name];
  const unknown = only.find((job) => !suite.jobs.includes(job));
  if (unknown !== undefined) {
    console.error(`bench: expected one of ${suite.jobs.join(", ")} for --only, got ${unknown}`);
    process.exit(2);
  }
  const base = quick ? join(kRoot, "build", "bench") : kResults;
  const results: CaseResult[] = [];
  const begin = performance.now();
  for (const job of suite.jobs.filter((each) => only.length === 0 || only.includes(each))) {
    const start = performance.now();
    // Seen from here: the load average would still hold the job before.
    const load = quick ? 0 : await busyProcessors();
    const timed = await startJob({ suite: name, job, quick, device });
    const result = { ...timed, environment: { ...timed.environment, load } };
    const path = writeResult(join(base, folderOf(result.environment)), result);
    results.push(result);
    console.error(`bench: ${job} took ${secondsSince(start)}, ${path.slice(kRoot.length + 1)}`);
  }
  console.log(terminalReport(results));
  console.error(`bench: ${name} took ${secondsSince(begin)}`);
  const busiest = Math.max(...results.map(({ environment }) => environment.load));
  if (busiest > kBusy) {
    console.error(
      `bench: ${busiest.toFixed(1)} processors were busy before a job; results may be wrong`,
    );
  }
}

function secondsSince(start: number): string {
  return `${((performance.now() - start) / 1000).toFixed(1)} s`;
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
  const { suite, job, quick, device } = JSON.parse(process.env.SPINDLEKV_BENCH_JOB!) as JobMessage;
  const context: RunContext = {
    program: process.argv[1],
    root: kRoot,
    quick,
    deviceName: device,
  };
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
  const { text, plots } = benchmarksPage(results);
  writeFileSync(join(kRoot, "docs", "benchmarks.md"), text);
  const plotFolder = join(kRoot, "docs", "benchmarks");
  rmSync(plotFolder, { recursive: true, force: true });
  mkdirSync(plotFolder);
  for (const [name, drawing] of plots) writeFileSync(join(plotFolder, name), drawing);
  console.error("bench: wrote docs/benchmarks.md");
}
