// A vitest reporter that says how many tests ran on each backend and ends the output with one line
// of totals. A test names its backend by `meta.backend`; one that runs several cases says how
// many by `meta.cases`.
//
// SPINDLEKV_SUMMARY_FILE        the totals are also written there as JSON
// SPINDLEKV_REQUIRED_BACKENDS   comma-separated; the run fails when one of them ran no test

import { writeFileSync } from "node:fs";

const emptyCounts = () => ({ passed: 0, failed: 0, skipped: 0, cases: 0 });

export default class SummaryReporter {
  onTestRunEnd(testModules, unhandledErrors) {
    const total = emptyCounts();
    const backends = new Map();
    for (const testModule of testModules) {
      let sawFailure = false;
      for (const test of testModule.children.allTests()) {
        const { state } = test.result();
        const outcome = state === "passed" || state === "failed" ? state : "skipped";
        sawFailure ||= outcome === "failed";
        total[outcome] += 1;
        const { backend, cases } = test.meta();
        if (backend === undefined) continue;
        if (!backends.has(backend)) backends.set(backend, emptyCounts());
        backends.get(backend)[outcome] += 1;
        if (outcome === "passed") backends.get(backend).cases += cases || 1;
      }
      // A file that does not load, or whose hook throws, has no failing test of its own.
      if (testModule.state() === "failed" && !sawFailure) total.failed += 1;
    }
    total.failed += unhandledErrors.length;

    const required = (process.env.SPINDLEKV_REQUIRED_BACKENDS ?? "").split(",").filter(Boolean);
    for (const backend of required) {
      if ((backends.get(backend)?.passed ?? 0) > 0) continue;
      console.error(`no test passed on the required backend ${backend}`);
      total.failed += 1;
      process.exitCode = 1;
    }

    console.log("\nOp cases by backend:");
    for (const [backend, counts] of [...backends].sort(([a], [b]) => a.localeCompare(b))) {
      const { passed, failed, skipped, cases } = counts;
      console.log(
        `  ${backend.padEnd(13)}${String(cases).padStart(6)} cases in ${passed} tests that passed, ` +
          `${failed} failed, ${skipped} skipped`,
      );
    }
    if (backends.size === 0) console.log("  none: no test names a backend");

    if (process.env.SPINDLEKV_SUMMARY_FILE) {
      const summary = { total, backends: Object.fromEntries(backends) };
      writeFileSync(process.env.SPINDLEKV_SUMMARY_FILE, `${JSON.stringify(summary, null, 2)}\n`);
    }
    console.log(`${total.passed} passed, ${total.failed} failed, ${total.skipped} skipped`);
  }
}
