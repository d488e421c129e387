/** docs/benchmarks.md out of the result files, and the same tables for a terminal. */
import { formatTable } from "spindlekv/eval";
import type { CaseResult, Environment, Goal, SettingResult } from "./harness/result.ts";
import { relativeRange, type Spread } from "./harness/statistics.ts";

type Table = { readonly head: readonly string[]; readonly rows: readonly (readonly string[])[] };

const percent = (value: number) => `${(100 * value).toFixed(0)} %`;
const withRange = (spread: Spread, show: (value: number) => string) =>
  `${show(spread.median)} [${show(spread.low)}, ${show(spread.high)}]`;
/** Three significant digits, without exponents. */
const short = (value: number) =>
  value >= 100 ? value.toFixed(0) : value >= 10 ? value.toFixed(1) : value.toFixed(2);

/** The arms of results: one row an arm. */
function armTable(results: readonly CaseResult[]): Table {
  const hasRatio = results.some(({ settings }) =>
    settings.some(({ arms }) => arms.some(({ ratioToFirst }) => ratioToFirst !== undefined)),
  );
  const hasBaseline = results.some(({ baseline }) => baseline !== null);
  const rows = results.flatMap((result) =>
    result.settings.flatMap((setting) =>
      setting.arms.map((arm) => [
        result.op,
        setting.shape,
        arm.name,
        withRange(arm.milliseconds, short),
        short(arm.gigabytesPerSecond),
        withRange(arm.share, percent),
        arm.gigaflopsPerSecond > 0 ? short(arm.gigaflopsPerSecond) : "-",
        ...(hasRatio ? [arm.ratioToFirst ? withRange(arm.ratioToFirst, ratio) : "-"] : []),
        ...(hasBaseline ? [speedup(arm.milliseconds, arm.baselineMilliseconds)] : []),
      ]),
    ),
  );
  const head = ["op", "shape", "arm", "ms", "GB/s", "of bandwidth", "GFLOP/s"];
  if (hasRatio) head.push("over plain");
  if (hasBaseline) head.push("x baseline");
  return { head, rows };
}

const ratio = (value: number) => value.toFixed(3);

function speedup(milliseconds: Spread, baseline: Spread | undefined): string {
  return baseline === undefined ? "-" : short(baseline.median / milliseconds.median);
}

function bandwidthTable(results: readonly CaseResult[]): Table {
  const rows = results.flatMap(({ op, settings }) =>
    settings.flatMap(({ shape, bandwidth }) =>
      Object.entries(bandwidth).map(([name, spread]) => [
        op,
        shape,
        name,
        withRange(spread, short),
        percent(relativeRange(spread)),
        String(spread.count),
      ]),
    ),
  );
  return { head: ["op", "shape", "bandwidth", "GB/s", "range", "rounds"], rows };
}

function goalTable(goals: readonly (Goal & { readonly shape: string })[]): Table {
  const rows = goals.map(({ shape, what, asked, measured, met }) => [
    shape,
    what,
    asked,
    ratio(measured),
    met ? "met" : "missed",
  ]);
  return { head: ["shape", "goal", "asked", "measured", ""], rows };
}

const goalsOf = (results: readonly CaseResult[]) =>
  results.flatMap(({ name, goals }) => goals.map((goal) => ({ ...goal, shape: name })));

/** What a run prints when it is done. */
export function terminalReport(results: readonly CaseResult[]): string {
  const tables = [armTable(results), bandwidthTable(results)];
  const goals = goalsOf(results);
  if (goals.length > 0) tables.push(goalTable(goals));
  return tables.map(({ head, rows }) => formatTable(head, rows)).join("\n\n");
}

// ---- The page ----------------------------------------------------------------------------------

const introduction = `<!-- Written by \`npm run bench -- report\` from bench/results/; not by hand. -->
# Benchmarks

Medians with first and third quartiles in brackets. GB are 10^9 bytes; the bytes are those any implementation must
move, the operations those of the formula. A part of each result is compared with the oracle of the tests before timing. What is
compared is timed in turn in one run, one process a case, and the memory bandwidth with it. "x baseline" is the
baseline's time over the op's, "over plain" an arm's time over that of the case's first arm.

- \`npm run bench -- first\`: decode attention against the read bandwidth. Inputs rotate over 512 MiB.
- \`npm run bench -- ops\`: every op against the copy bandwidth, and against a baseline.
- \`bench/gpu-all\`: the rows of a GPU, on a machine that has one ([what it does](gpu.md)).
- \`--quick\` takes a few samples and leaves the result files alone.`;

const noResults = "No result is committed yet.";

const suiteTitles: Readonly<Record<string, string>> = {
  first: "Decode attention",
  ops: "All ops",
  gpu: "Rows of the GPU",
};

function markdownTable({ head, rows }: Table): string {
  const line = (cells: readonly string[]) => `| ${cells.join(" | ")} |`;
  return [line(head), line(head.map(() => "---")), ...rows.map(line)].join("\n");
}

function environmentLine(environment: Environment): string {
  const { device, detail, os, node, memoryBytes, commit, modified, date, load } = environment;
  const source = `commit ${commit.slice(0, 12)}${modified ? ", with uncommitted changes" : ""}`;
  const memory = `${(memoryBytes / 2 ** 30).toFixed(0)} GiB`;
  const parts = [
    device,
    detail,
    memory,
    os,
    ...(node === null ? [] : [`Node ${node}`]),
    source,
    date.slice(0, 10),
  ];
  return `${parts.join(" · ")} · load before ${load.toFixed(1)}`;
}

function shapeList(results: readonly CaseResult[]): string {
  const sizesOf = ({ sizes, facts }: SettingResult) =>
    Object.entries({ ...sizes, ...facts })
      .map(([name, value]) => `${name} ${Number.isInteger(value) ? value : value.toPrecision(3)}`)
      .join(", ");
  return results
    .flatMap((result) => [
      `- \`${result.op}\`: ${result.what}`,
      ...result.settings.map((setting) => `  - ${setting.shape}: ${sizesOf(setting)}`),
    ])
    .join("\n");
}

function suitePart(suite: string, results: readonly CaseResult[]): string {
  const references = new Set(results.flatMap((r) => r.settings.map((s) => s.bandwidthOf)));
  const baselines = new Set(results.flatMap(({ baseline }) => baseline ?? []));
  const goals = goalsOf(results);
  const environments = new Set(results.map(({ environment }) => environmentLine(environment)));
  return [
    `### ${suiteTitles[suite] ?? suite}`,
    [...environments].join("\n\n"),
    markdownTable(armTable(results)),
    `Bandwidth: ${[...references].join("; ")}.` +
      (baselines.size > 0 ? ` Baseline: ${[...baselines].join("; ")}.` : ""),
    markdownTable(bandwidthTable(results)),
    ...(goals.length > 0 ? [markdownTable(goalTable(goals))] : []),
    shapeList(results),
  ].join("\n\n");
}

/** The whole page, from the results of each device's folder. */
export function benchmarksPage(folders: ReadonlyMap<string, readonly CaseResult[]>): string {
  const parts = [introduction];
  for (const [folder, results] of folders) {
    if (results.length === 0) continue;
    parts.push(`## ${folder}`);
    for (const suite of new Set(results.map((result) => result.suite))) {
      const own = results.filter((result) => result.suite === suite);
      parts.push(suitePart(suite, own));
    }
  }
  if (parts.length === 1) parts.push(noResults);
  return `${parts.join("\n\n")}\n`;
}
