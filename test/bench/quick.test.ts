import { spawnSync } from "node:child_process";
import { readFileSync, rmSync } from "node:fs";
import { join } from "node:path";
import { beforeAll, describe, expect, it } from "vitest";
import type { CaseResult } from "../../bench/harness/result.ts";

const root = join(import.meta.dirname, "..", "..");
const path = join(root, "build", "bench", "cpu", "cpu-scaling-context.json");

const bundling = `
  import { bundleProgram } from "./scripts/support/typescript.mjs";
  console.log(await bundleProgram("bench/main.ts"));
`;

let program: string;
beforeAll(() => {
  const words = ["--input-type=module", "--eval", bundling];
  const { stdout, stderr } = spawnSync(process.execPath, words, { cwd: root, encoding: "utf8" });
  program = stdout.trim().split("\n").at(-1)!;
  expect(program, stderr).toContain("main.mjs");
});

/** Without a compiled probe and without a Python: what every machine can do. */
function bench(...words: string[]) {
  const { SPINDLEKV_BENCH_PROBE: _, ...env } = process.env;
  return spawnSync(process.execPath, [program, ...words], {
    cwd: root,
    encoding: "utf8",
    env: { ...env, SPINDLEKV_PEER_PYTHON: "no-such-interpreter" },
  });
}

describe("a quick run of one job", () => {
  it("times it in a process of its own, prints it, and leaves the committed results alone", () => {
    rmSync(path, { force: true });
    const page = readFileSync(join(root, "docs", "benchmarks.md"), "utf8");
    const { status, stdout, stderr } = bench(
      "--suite",
      "cpu",
      "--quick",
      "--only",
      "scaling-context",
    );
    expect(status, stderr).toBe(0);
    expect(stdout).toContain("full, accumulating");
    expect(stderr).toContain("scaling-context took");
    const result = JSON.parse(readFileSync(path, "utf8")) as CaseResult;
    expect(result.quick).toBe(true);
    expect(result.settings.map(({ sizes }) => sizes.slots)).toEqual([1024, 2048]);
    for (const { arms, bytes, bandwidth, bandwidthOf } of result.settings) {
      expect(bandwidthOf).toContain("WebAssembly");
      expect(bandwidth.read.median).toBeGreaterThan(0);
      for (const arm of arms) expect(arm.milliseconds.median, arm.name).toBeGreaterThan(0);
      expect(arms[2].bytes).toBeLessThanOrEqual(0.2 * bytes);
    }
    expect(readFileSync(join(root, "docs", "benchmarks.md"), "utf8")).toBe(page);
  });

  it("refuses a job that the suite has not", () => {
    const { status, stderr } = bench("--suite", "cpu", "--only", "decode-9k");
    expect(status).toBe(2);
    expect(stderr).toContain("for --only, got decode-9k");
  });
});
