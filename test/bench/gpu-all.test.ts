// bench/gpu-all without a GPU: its dry run on the SIMT host goes through every check and every timed job.
import { spawnSync } from "node:child_process";
import { existsSync, mkdtempSync, readFileSync, rmSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { fileURLToPath } from "node:url";
import { afterEach, beforeEach, describe, expect, it } from "vitest";
import { readResults } from "../../bench/harness/result.ts";
import { benchmarksPage } from "../../bench/report.ts";

const root = fileURLToPath(new URL("../../", import.meta.url));
const hasPython = spawnSync("python3", ["-c", "import sys; sys.exit(sys.version_info < (3, 10))"]);
const hasSimt = existsSync(join(root, "build", "Release", "libspindlekv_simt.so"));

interface Part {
  readonly part: string;
  readonly status: string;
  readonly detail: string;
}

describe("bench/gpu-all --dry-run", () => {
  let folder = "";
  beforeEach(() => {
    folder = mkdtempSync(join(tmpdir(), "spindlekv-gpu-all-"));
  });
  afterEach(() => rmSync(folder, { recursive: true }));

  const run = (only: string, env: Record<string, string> = {}) => {
    const words = ["--dry-run", "--small", "--out", folder, "--only", only];
    const { status, stdout } = spawnSync("python3", [join(root, "bench", "gpu-all"), ...words], {
      encoding: "utf8",
      env: { ...process.env, ...env },
    });
    const state = JSON.parse(readFileSync(join(folder, "gpu-all.json"), "utf8"));
    return { status, stdout, parts: state.parts as Part[] };
  };
  const skipReason =
    hasPython.status !== 0 ? "no python3 (3.10 or newer)" : hasSimt ? "" : "simt is not built";

  it("checks every op and leaves a result of every row", { timeout: 120_000 }, ({ skip }) => {
    if (skipReason) skip(skipReason);
    const jobs = "decode-4k,spindlekv,window-32k,topk-32k,compact,kmeans,shared-prefix,codebook";
    const timed = jobs.split(",").map((job) => `time:${job}`);
    const { status, stdout, parts } = run(["layout", "check", ...timed].join());
    expect(status, stdout).toBe(0);
    expect(parts.map(({ status: state }) => state)).toEqual(parts.map(() => "ok"));
    expect(parts.filter(({ part }) => part.startsWith("check:"))).toHaveLength(14);
    const results = readResults(folder);
    expect(results).toHaveLength(timed.length);
    expect(results.every(({ quick, suite }) => quick && suite === "gpu")).toBe(true);
    const page = benchmarksPage(new Map([["simt", results]])).text;
    for (const { goals } of results) for (const { what } of goals) expect(page).toContain(what);
    expect(results.flatMap(({ goals }) => goals).length).toBeGreaterThan(8);
  });

  it("says so when an op fails, and goes on", { timeout: 60_000 }, ({ skip }) => {
    if (skipReason) skip(skipReason);
    const failing = { SPINDLEKV_SIMT_FAIL_LAUNCH: "1" };
    const { status, parts } = run("check:rope,check:compact", failing);
    expect(status).toBe(1);
    expect(parts.map(({ part, status: state }) => `${part} ${state}`)).toEqual([
      "check:compact failed",
      "check:rope failed",
    ]);
  });
});
