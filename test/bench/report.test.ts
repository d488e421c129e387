import { existsSync, readdirSync, readFileSync } from "node:fs";
import { join } from "node:path";
import { describe, expect, it } from "vitest";
import type { CaseResult } from "../../bench/harness/result.ts";
import { readResults } from "../../bench/harness/result.ts";
import { benchmarksPage, terminalReport } from "../../bench/report.ts";

const spread = (median: number) => ({ median, low: median * 0.9, high: median * 1.1, count: 9 });

const example: CaseResult = {
  suite: "first",
  name: "decode-8k",
  op: "attend",
  what: "decode",
  baseline: null,
  quick: false,
  environment: {
    device: "Example CPU",
    detail: "avx2, 2 threads",
    threads: 2,
    os: "Linux 6.1 x64",
    node: "v20.17.0",
    memoryBytes: 24 * 2 ** 30,
    commit: "0123456789abcdef0123456789abcdef01234567",
    modified: true,
    date: "2026-01-02T03:04:05.000Z",
    load: 0.1,
  },
  settings: [
    {
      shape: "decode-8k",
      sizes: { slots: 8192 },
      bytes: 33_554_432,
      flops: 134_217_728,
      facts: { copies: 16 },
      bandwidthOf: "reading",
      bandwidth: { read: spread(20) },
      arms: [
        {
          name: "plain",
          milliseconds: spread(2.5),
          gigabytesPerSecond: 13.42,
          gigaflopsPerSecond: 53.7,
          share: spread(0.67),
        },
        {
          name: "accumulate kv-head",
          milliseconds: spread(2.6),
          gigabytesPerSecond: 12.9,
          gigaflopsPerSecond: 51.6,
          share: spread(0.645),
          ratioToFirst: spread(1.04),
        },
      ],
    },
  ],
  goals: [{ what: "share of the read bandwidth", asked: ">= 0.7", measured: 0.67, met: false }],
};

describe("the page of benchmarks", () => {
  it("names device, system, commit, date and load", () => {
    const page = benchmarksPage(new Map([["cpu", [example]]]));
    const source = "commit 0123456789ab, with uncommitted changes · 2026-01-02 · load before 0.1";
    expect(page).toContain(
      `Example CPU · avx2, 2 threads · 24 GiB · Linux 6.1 x64 · Node v20.17.0 · ${source}`,
    );
  });

  it("has a row for each arm, and the goals as measured", () => {
    const page = benchmarksPage(new Map([["cpu", [example]]]));
    expect(page).toContain(
      "| attend | decode-8k | plain | 2.50 [2.25, 2.75] | 13.4 | 67 % [60 %, 74 %] | 53.7 | - |",
    );
    expect(page).toContain("| 1.040 [0.936, 1.144] |");
    expect(page).toContain("| share of the read bandwidth | >= 0.7 | 0.670 | missed |");
    expect(terminalReport([example])).toContain("missed");
  });

  it("says by how much the baseline is slower", () => {
    const [setting] = example.settings;
    const arm = { ...setting.arms[0], baselineMilliseconds: spread(25) };
    const result = {
      ...example,
      suite: "ops",
      baseline: "one thread",
      settings: [{ ...setting, arms: [arm] }],
    };
    const page = benchmarksPage(new Map([["cpu", [result]]]));
    expect(page).toContain("| 10.0 |");
    expect(page).toContain("Baseline: one thread.");
  });

  it("says so when there is no result", () => {
    expect(benchmarksPage(new Map([["cpu", []]]))).toContain("No result is committed yet.");
  });

  it("is the committed one: `npm run bench -- report` was run after the last result", () => {
    const root = join(import.meta.dirname, "..", "..");
    const results = join(root, "bench", "results");
    const folders = existsSync(results) ? readdirSync(results).sort() : [];
    const page = benchmarksPage(
      new Map(folders.map((name) => [name, readResults(join(results, name))])),
    );
    expect(readFileSync(join(root, "docs", "benchmarks.md"), "utf8")).toBe(page);
  });
});
