// npm run check: everything CI checks, in one run, each step timed. The last line adds up the tests
// of the test steps and one for each other step.
//
//   --tests <file>       the main test run is done already; its totals are in this file (.ci/run)
//   --tests-status <n>   the exit status of that run
//   --only <names>       comma-separated steps
import { existsSync, mkdirSync, readFileSync, rmSync } from "node:fs";
import { join } from "node:path";
import { ensureInstalled } from "./support/install.mjs";
import { missingForNeon, planBackends } from "./support/native.mjs";
import { root, run, say, tool } from "./support/run.mjs";

const argumentOf = (name) => {
  const at = process.argv.indexOf(name);
  return at < 0 ? undefined : process.argv[at + 1];
};

const resultFolder = join(root, "build", "ci");
const summaryOf = (name) => join(resultFolder, `${name}.json`);
mkdirSync(resultFolder, { recursive: true });

ensureInstalled();
const plan = planBackends();
const node = (script, ...args) => [process.execPath, [join("scripts", script), ...args]];

/** Paths of the CPU backend that the main run does not take: the ops once more on each this machine has. */
function isaStep() {
  const cpuinfo = existsSync("/proc/cpuinfo") ? readFileSync("/proc/cpuinfo", "utf8") : "";
  const has = (...flags) => flags.every((flag) => new RegExp(`\\b${flag}\\b`).test(cpuinfo));
  const paths = [
    { isa: "baseline", isThere: true },
    { isa: "avx2", isThere: has("avx2", "fma", "f16c") },
    { isa: "avx512", isThere: has("avx512f", "avx512bw", "avx512vl", "avx512dq") },
  ].filter(({ isThere }) => isThere);
  return {
    name: "paths",
    tests: true,
    command: [tool("vitest"), ["run", "test/ops"]],
    env: {
      SPINDLEKV_TEST_CPU_ISAS: paths.map(({ isa }) => isa).join(),
      SPINDLEKV_TEST_BACKENDS: "cpu",
    },
    skipReason: process.arch === "x64" ? undefined : `${process.arch} has one path`,
  };
}

/** Each step: a command, or for a test run (`tests`) one that also leaves its totals in a file. */
const steps = [
  { name: "test", tests: true, command: ["npm", ["test"]], doneIn: argumentOf("--tests") },
  isaStep(),
  { name: "lint", command: node("lint.mjs") },
  { name: "types", command: [tool("tsc"), ["--noEmit"]] },
  { name: "sources", command: node("check-sources.mjs") },
  { name: "layers", command: node("check-layers.mjs") },
  { name: "parity", command: node("check-parity.mjs") },
  { name: "errors", command: node("check-errors.mjs") },
  { name: "docs", command: node("check-docs.mjs") },
  { name: "readme", command: node("update-readme.mjs", "--check") },
  { name: "quality", command: node("update-methods.mjs", "--check") },
  {
    name: "cubin",
    command: node("check-cubin.mjs"),
    skipReason: plan.cuda ? undefined : plan.toolkit.nvccReason,
  },
  {
    name: "sanitize",
    tests: true,
    command: ["npm", ["run", "test:sanitize"]],
    skipReason: plan.simt ? undefined : plan.toolkit.includeReason,
  },
  { name: "neon", command: node("check-neon.mjs"), skipReason: missingForNeon() },
  { name: "package", command: node("check-package.mjs") },
  { name: "demo", command: ["npm", ["run", "demo", "--", "--quick"]] },
];

/** Runs one step and returns its counts. */
function runStep({ name, tests, command, env: own = {}, doneIn, skipReason }) {
  if (skipReason) return { passed: 0, failed: 0, skipped: 1, note: `skipped: ${skipReason}` };
  const file = doneIn ?? summaryOf(name);
  let status = Number(argumentOf("--tests-status") ?? 0);
  if (!doneIn) {
    rmSync(file, { force: true });
    const env = tests ? { ...own, SPINDLEKV_SUMMARY_FILE: file } : own;
    status = run(...command, { env, allowFailure: true });
  }
  if (!tests) return { passed: status === 0 ? 1 : 0, failed: status === 0 ? 0 : 1, skipped: 0 };
  if (!existsSync(file))
    return { passed: 0, failed: 1, skipped: 0, note: "the run did not finish" };
  const { total } = JSON.parse(readFileSync(file, "utf8"));
  // A run that fails without a failing test (a crash, a required backend) is a failure too.
  const failed = status !== 0 && total.failed === 0 ? 1 : total.failed;
  return { passed: total.passed, failed, skipped: total.skipped };
}

const only = argumentOf("--only")?.split(",");
const rows = [];
const sum = { passed: 0, failed: 0, skipped: 0 };
for (const step of steps.filter(({ name }) => !only || only.includes(name))) {
  console.log(`\n=== ${step.name} ===`);
  const start = performance.now();
  const counts = runStep(step);
  const seconds = (performance.now() - start) / 1000;
  for (const key of Object.keys(sum)) sum[key] += counts[key];
  const outcome = counts.note ?? `${counts.passed} passed, ${counts.failed} failed`;
  const verdict = counts.failed > 0 ? "FAILED" : counts.note ? "skipped" : "ok";
  say(`${step.name}: ${verdict} in ${seconds.toFixed(1)} s`);
  rows.push({ name: step.name, seconds, verdict, outcome });
}

console.log("\n=== summary ===");
for (const { name, seconds, verdict, outcome } of rows) {
  console.log(
    `${name.padEnd(10)} ${verdict.padEnd(8)} ${seconds.toFixed(1).padStart(7)} s  ${outcome}`,
  );
}
console.log(`${sum.passed} passed, ${sum.failed} failed, ${sum.skipped} skipped`);
process.exit(sum.failed > 0 || rows.length === 0 ? 1 : 0);
