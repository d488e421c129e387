/** docs/benchmarks.md and its plots, out of the result files alone. */
import type { CaseResult, Environment, SettingResult } from "./harness/result.ts";
import { markdownTable, measuredText, unitText, verdict } from "./report/format.ts";
import { contextPlot, keptPlot, rooflinePlot } from "./report/plots.ts";
import { cpuRows, gpuRows, type Row } from "./report/rows.ts";
import { armTable, bandwidthTable, goalCount, goalsOf, goalTable } from "./report/tables.ts";

/** What is written: the page, and the plots by file name. */
export interface BenchmarksPage {
  readonly text: string;
  readonly plots: ReadonlyMap<string, string>;
}

const introduction = `<!-- Written by \`npm run bench -- report\` from bench/results/; not by hand. -->
# Benchmarks

Medians with first and third quartiles in brackets. GB are 10^9 bytes; the bytes are those any implementation must
move, the operations those of the formula. What is compared is timed in turn in one run, one process a case, and the
memory bandwidth with it; the results of an op are compared with the oracle of the tests before it is timed. Inputs
rotate over at least twice the last-level cache. "Over first" is an arm's time over that of the case's first arm,
"x baseline" the baseline's time over the op's.

- \`npm run bench -- --suite cpu\`: the goals of the CPU, each against its peer, and how times scale.
- \`npm run bench -- --suite first\`: decode attention against the read bandwidth.
- \`npm run bench -- --suite ops\`: every op against the memory bandwidth, and against a baseline; with \`--device cuda\`
  on a GPU.
- \`bench/gpu-all\`: the goals of a GPU, on a machine that has one ([what it does](gpu.md)).
- \`--quick\` takes a few samples and leaves the result files alone.

Peers (torch, scikit-learn) are no dependency: \`SPINDLEKV_PEER_PYTHON\` names a Python that has them, by default
\`python3\`. They run in a process of their own that is asked for one call at a time, with as many threads as ours, and
their OpenMP threads sleep between calls (\`OMP_WAIT_POLICY=passive\`, \`KMP_BLOCKTIME=0\`), as ours do. A row whose peer
is not installed is not measured, and not met.`;

const noResults = "No result is committed yet.";

const suiteTitles: Readonly<Record<string, string>> = {
  cpu: "The goals, case by case",
  first: "Decode attention",
  gpu: "The goals, case by case",
  ops: "All ops",
};

function environmentLine(environment: Environment): string {
  const { device, detail, os, node, memoryBytes, commit, modified, date, load } = environment;
  const source = `commit ${commit.slice(0, 12)}${modified ? ", with uncommitted changes" : ""}`;
  const memory = `${(memoryBytes / 2 ** 30).toFixed(0)} GiB`;
  const programs = node === null ? [] : [`Node ${node}`];
  const parts = [device, detail, memory, os, ...programs, source, date.slice(0, 10)];
  return `${parts.join(" · ")} · load before ${load.toFixed(1)}`;
}

/** One line for results that differ in nothing but the load: the range of loads. */
function environmentLines(results: readonly CaseResult[]): string {
  const loads = new Map<string, number[]>();
  for (const { environment } of results) {
    const line = environmentLine({ ...environment, load: 0 }).replace(/ · load before 0\.0$/, "");
    loads.set(line, [...(loads.get(line) ?? []), environment.load]);
  }
  const range = (values: readonly number[]) => {
    const [least, most] = [Math.min(...values).toFixed(1), Math.max(...values).toFixed(1)];
    return least === most ? least : `${least} to ${most}`;
  };
  return [...loads].map(([line, each]) => `${line} · load before ${range(each)}`).join("\n\n");
}

function shapeList(results: readonly CaseResult[]): string {
  const sizesOf = ({ sizes, facts }: SettingResult) =>
    Object.entries({ ...sizes, ...facts })
      .map(([name, value]) => `${name} ${Number.isInteger(value) ? value : value.toPrecision(3)}`)
      .join(", ");
  const whats = new Map<string, string[]>();
  for (const { op, what, settings } of results) {
    const shapes = settings.map((setting) => `  - ${setting.shape}: ${sizesOf(setting)}`);
    const head = `- \`${op}\`: ${what}`;
    whats.set(head, [...(whats.get(head) ?? []), ...shapes]);
  }
  return [...whats].map(([head, shapes]) => [head, ...shapes].join("\n")).join("\n");
}

function suitePart(suite: string, results: readonly CaseResult[]): string {
  const references = new Set(results.flatMap((r) => r.settings.map((s) => s.bandwidthOf)));
  const baselines = new Set(results.flatMap(({ baseline }) => baseline ?? []));
  const peers = new Set(
    results.flatMap((r) => Object.entries(r.peers ?? {}).map((pair) => pair.join(" "))),
  );
  const goals = goalsOf(results);
  return [
    `### ${suiteTitles[suite] ?? suite}`,
    environmentLines(results),
    markdownTable(armTable(results)),
    `Bandwidth: ${[...references].join("; ")}.` +
      (baselines.size > 0 ? ` Baseline: ${[...baselines].join("; ")}.` : "") +
      (peers.size > 0 ? ` Peers: ${[...peers].sort().join(", ")}.` : ""),
    markdownTable(bandwidthTable(results)),
    ...(goals.length > 0 && suite === "first" ? [markdownTable(goalTable(goals))] : []),
    shapeList(results),
  ].join("\n\n");
}

// ---- Goals ---------------------------------------------------------------------------------------

function rowLines({ title, jobs }: Row, results: readonly CaseResult[]): string[][] {
  return jobs.flatMap((job) => {
    const result = results.find(({ name }) => name === job);
    if (result === undefined) return [[title, job, "", "", "", "not yet measured"]];
    return goalsOf([result]).map((goal) => [
      title,
      job,
      goal.what,
      unitText(goal),
      measuredText(goal),
      verdict(goal),
    ]);
  });
}

function cpuGoals(results: readonly CaseResult[]): string {
  const own = results.filter(({ suite }) => suite === "cpu");
  const head = ["row", "case", "goal", "asked", "measured", ""];
  const rows = cpuRows.flatMap((row) => rowLines(row, own));
  return [
    "## Goals on the CPU",
    ...(own.length > 0 ? [goalCount(own.flatMap(({ goals }) => goals))] : []),
    markdownTable({ head, rows }),
  ].join("\n\n");
}

/** Of every device with results of the suite `gpu`; without any, what is asked for. */
function gpuGoals(folders: ReadonlyMap<string, readonly CaseResult[]>): string {
  const parts = [...folders].flatMap(([folder, results]) => {
    const own = results.filter(({ suite }) => suite === "gpu");
    if (own.length === 0) return [];
    const goals = goalsOf(own);
    return [`On ${folder}: ${goalCount(goals)}`, markdownTable(goalTable(goals))];
  });
  const none = [
    "Not yet measured: no result of a GPU is committed. What the instruction counts of the kernels predict is in\n" +
      "[gpu-model.md](gpu-model.md); [bench/gpu-all](gpu.md) measures every row.",
    markdownTable({
      head: ["goal", "asked", "measured"],
      rows: gpuRows.map(([what, asked]) => [what, asked, "not yet measured"]),
    }),
  ];
  return ["## Goals on a GPU", ...(parts.length > 0 ? parts : none)].join("\n\n");
}

// ---- The page ------------------------------------------------------------------------------------

interface Figure {
  readonly name: string;
  readonly caption: string;
  readonly draw: (results: readonly CaseResult[], machine: string) => string | undefined;
}

const figures: readonly Figure[] = [
  {
    name: "roofline",
    caption:
      "Each op against the nearer of two roofs: the memory bandwidth for its bytes (of reading or of copying), the peak of multiply-adds for its operations.",
    draw: rooflinePlot,
  },
  {
    name: "context",
    caption: "Time of a decode step against the length of the context, quartiles as bars.",
    draw: contextPlot,
  },
  {
    name: "kept",
    caption: "Speed-up of a decode step against the bytes kept, quartiles as bars.",
    draw: keptPlot,
  },
];

/** The whole page, from the results of each device's folder. */
export function benchmarksPage(
  folders: ReadonlyMap<string, readonly CaseResult[]>,
): BenchmarksPage {
  const plots = new Map<string, string>();
  const all = [...folders.values()].flat();
  const parts = [introduction, cpuGoals(folders.get("cpu") ?? []), gpuGoals(folders)];
  for (const [folder, results] of folders) {
    if (results.length === 0) continue;
    parts.push(`## ${folder}`);
    const { device, detail } = results[0].environment;
    for (const { name, caption, draw } of figures) {
      const drawn = draw(results, `${device} (${detail})`);
      if (drawn === undefined) continue;
      const file = `${folder}-${name}.svg`;
      plots.set(file, drawn);
      parts.push(`![${caption}](benchmarks/${file})`, caption);
    }
    for (const suite of new Set(results.map((result) => result.suite))) {
      const own = results.filter((result) => result.suite === suite);
      parts.push(suitePart(suite, own));
    }
  }
  if (all.length === 0) parts.push(noResults);
  return { text: `${parts.join("\n\n")}\n`, plots };
}
