import { existsSync, readdirSync, readFileSync } from "node:fs";
import { join } from "node:path";
import { describe, expect, it } from "vitest";
import type { CaseResult } from "../../bench/harness/result.ts";
import { readResults } from "../../bench/harness/result.ts";
import { terminalReport } from "../../bench/report/tables.ts";
import { benchmarksPage } from "../../bench/report.ts";

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

const pageOf = (results: readonly CaseResult[], folder = "cpu") =>
  benchmarksPage(new Map([[folder, results]])).text;

describe("the page of benchmarks", () => {
  it("names device, system, commit, date and load", () => {
    const page = pageOf([example]);
    const source = "commit 0123456789ab, with uncommitted changes · 2026-01-02 · load before 0.1";
    expect(page).toContain(
      `Example CPU · avx2, 2 threads · 24 GiB · Linux 6.1 x64 · Node v20.17.0 · ${source}`,
    );
  });

  it("has a row for each arm, and the goals as measured", () => {
    const page = pageOf([example]);
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
    const page = pageOf([result]);
    expect(page).toContain("| 10.0 |");
    expect(page).toContain("Baseline: one thread.");
  });

  it("says so when there is no result", () => {
    expect(pageOf([])).toContain("No result is committed yet.");
  });

  it("puts the goals of the suite cpu in the order of the table, and says what is not measured yet", () => {
    const page = pageOf([{ ...example, suite: "cpu" }]);
    expect(page).toContain("0 of 1 goals met, 1 missed.");
    expect(page).toContain("| decode-8k | share of the read bandwidth | >= 0.7 | 0.670 | missed |");
    expect(page).toContain("| decode-32k |  |  |  | not yet measured |");
    const titles = ["decode-8k", "decode-128k", "torch-8k", "spindle-32k", "call-overhead"];
    const places = titles.map((title) => page.indexOf(`| ${title} |`));
    expect(places).toEqual([...places].sort((a, b) => a - b));
  });

  it("never counts a goal without a figure as met", () => {
    const goal = { what: "times faster than torch", asked: ">= 5", measured: null, met: null };
    const goals = [{ ...goal, because: "peer not installed: torch" }];
    const page = pageOf([{ ...example, suite: "cpu", goals }]);
    expect(page).toContain("0 of 1 goals met, 0 missed, 1 not measured.");
    expect(page).toContain("| >= 5 | - | not measured: peer not installed: torch |");
  });

  it("lists what a GPU is asked for until one has answered", () => {
    const none = pageOf([example]);
    expect(none).toContain("[gpu-model.md](gpu-model.md)");
    expect(none).toContain(
      "| compaction, all layers, share of the copy bandwidth | >= 0.8 | not yet measured |",
    );
    const page = pageOf([{ ...example, suite: "gpu" }], "nvidia-h100");
    expect(page).toContain("On nvidia-h100: 0 of 1 goals met, 1 missed.");
    expect(page).not.toContain("not yet measured: no result of a GPU");
    expect(page).not.toContain("gpu-model.md");
  });

  it("shows the range of loads where nothing else differs", () => {
    const busy = { ...example, environment: { ...example.environment, load: 0.9 } };
    expect(pageOf([example, busy])).toContain("· load before 0.1 to 0.9");
  });

  it("is the committed one: `npm run bench -- report` was run after the last result", () => {
    const root = join(import.meta.dirname, "..", "..");
    const results = join(root, "bench", "results");
    const folders = existsSync(results) ? readdirSync(results).sort() : [];
    const { text, plots } = benchmarksPage(
      new Map(folders.map((name) => [name, readResults(join(results, name))])),
    );
    expect(readFileSync(join(root, "docs", "benchmarks.md"), "utf8")).toBe(text);
    const folder = join(root, "docs", "benchmarks");
    const drawings = existsSync(folder) ? readdirSync(folder).sort() : [];
    expect(drawings).toEqual([...plots.keys()].sort());
    for (const name of drawings) {
      expect(readFileSync(join(folder, name), "utf8"), name).toBe(plots.get(name));
    }
  });
});
