// Fills the generated blocks of README.md, which lie between <!-- name:begin --> and <!-- name:end -->:
//
//   methods  from the pages in docs/methods
//   demo     from bench/results/cpu/demo.json, which `npm run demo -- --out bench/results/cpu` writes
//   bench    from the goals in bench/results/<device>/cpu-*.json and gpu-*.json, which `npm run bench -- --suite cpu`
//            and bench/gpu-all write; without any from those of `first`
//
// A block whose results are not there says so. `--check` writes nothing and fails when a block is not what it
// should be.
import { filesUnder, readText } from "./support/files.mjs";
import { kNone, table, updateBlocks } from "./support/generated-blocks.mjs";
import { fail } from "./support/run.mjs";

const kResults = "bench/results/cpu";

// ---- methods -------------------------------------------------------------------------------------

/** Shorter than this, a sentence alone says too little. */
const kLeastIdea = 60;

/** The first sentence under "Idea", or as many as it takes to say something; without links. */
function ideaOf(page, text) {
  const idea = /^## Idea\n([\s\S]*?)(?=\n\n|\n## )/m.exec(text)?.[1];
  if (!idea) fail(`${page} has no section "Idea"`);
  const prose = idea.replaceAll("\n", " ").replace(/\[([^\]]+)\]\([^)]*\)/g, "$1");
  let said = "";
  for (const [sentence] of prose.matchAll(/.+?(?:\.(?= |$)|$)/g)) {
    if (said.length >= kLeastIdea) break;
    said += sentence;
  }
  return said.trim();
}

function methodsBlock() {
  const pages = filesUnder("docs/methods", (path) => path.endsWith(".md"));
  const rows = pages.map((page) => {
    const text = readText(page);
    const name = /^# (\S+)/.exec(text)?.[1];
    return [`[\`${name}\`](${page})`, ideaOf(page, text)];
  });
  return table(["method", "idea"], rows);
}

// ---- demo ----------------------------------------------------------------------------------------

const kProtocols = ["hidden", "visible"];

/** Two decimals, without a sign on zero. */
const short = (value) => value.toFixed(2).replace(/^-(0\.00)$/, "$1");

/** "hidden / visible" of one method and keep value; "-" where it did not run. */
function pair(rows, method, keep, show) {
  const cells = kProtocols.map((protocol) => {
    const row = rows.find(
      (each) => each.method === method && each.keep === keep && each.protocol === protocol,
    );
    return row ? show(row) : "-";
  });
  return cells.join(" / ");
}

/** A difference that does not show in two decimals is none. */
const kLeastDifference = 0.005;

/** Where the subject is ahead of and behind each other method, by the intervals of paired differences. */
function comparisonLines(comparisons) {
  const baselines = [...new Set(comparisons.map(({ baseline }) => baseline))];
  const places = (list) =>
    list.map(({ protocol, keep }) => `${keep} ${protocol}`).join(", ") || "nowhere";
  const isSeen = ({ value }) => Math.abs(value) >= kLeastDifference;
  return baselines.map((baseline) => {
    const own = comparisons.filter((each) => each.baseline === baseline);
    const ahead = own.filter(
      ({ logProbability }) => logProbability.low > 0 && isSeen(logProbability),
    );
    const behind = own.filter(
      ({ logProbability }) => logProbability.high < 0 && isSeen(logProbability),
    );
    const even = own.length - ahead.length - behind.length;
    return [`\`${baseline}\``, places(ahead), places(behind), `${even} of ${own.length}`];
  });
}

/** The device in words; why CUDA was not taken is of no interest here. */
const deviceOf = (text) => text.replace(/; without CUDA:[\s\S]*$/, "");

function demoBlock() {
  const text = readText(`${kResults}/demo.json`);
  if (text === undefined) return kNone;
  const { device, model, settings, rows, comparisons } = JSON.parse(text);
  const keeps = [...new Set(rows.flatMap(({ keep }) => keep ?? []))].sort((a, b) => b - a);
  const methods = [...new Set(rows.map(({ method }) => method))];
  const isFixed = (method) => rows.some((row) => row.method === method && row.keep === null);
  const targeted = methods.filter((method) => !isFixed(method));
  const fixed = methods.filter(isFixed).map((method) => {
    const bytes = pair(rows, method, null, (row) => row.bytes.value.toFixed(3));
    const recall = pair(rows, method, null, (row) => row.recall.value.toFixed(2));
    const log = pair(rows, method, null, (row) => row.logProbability.value.toFixed(3));
    return `\`${method}\` (${bytes} of the bytes): recall ${recall}, log-probability ${log}`;
  });
  const cell = (method, keep) =>
    pair(rows, method, keep, (row) => {
      return `${short(row.recall.value)} (${short(row.logProbability.value)})`;
    });
  const body = targeted.map((method) => [
    `\`${method}\``,
    ...keeps.map((keep) => cell(method, keep)),
  ]);
  const facts = Object.entries(settings).map(([name, value]) => `${value} ${name}`);
  const subject = comparisons[0]?.method;
  return [
    `[demo.json](${kResults}/demo.json): ${model}, ${facts.join(", ")}, on ${deviceOf(device)}.`,
    `Recall (mean log-probability of the answer) with the question hidden / visible, by \`keep\`. ${fixed.join("; ")}.`,
    table(["method", ...keeps.map((keep) => `keep ${keep}`)], body),
    ...(subject === undefined
      ? []
      : [
          `\`${subject}\` against each, where the log-probability differs by ${kLeastDifference} or more and the 95 % interval of the paired difference leaves out 0:`,
          table(
            ["against", "ahead at keep", "behind at keep", "neither"],
            comparisonLines(comparisons),
          ),
        ]),
  ].join("\n\n");
}

// ---- bench ---------------------------------------------------------------------------------------

/** Goals of the CPU first, as their files are named; the wording of a verdict is that of docs/benchmarks.md. */
function benchBlock() {
  const named = (pattern) => filesUnder("bench/results", (path) => pattern.test(path));
  const goalFiles = named(/\/(cpu|gpu)-[^/]+\.json$/);
  const results = (goalFiles.length > 0 ? goalFiles : named(/\/first-[^/]+\.json$/)).map(
    (path) => ({ path, ...JSON.parse(readText(path)) }),
  );
  const withGoals = results.filter(({ goals }) => goals.length > 0);
  if (withGoals.length === 0) return kNone;
  const verdict = (met) => (met === null ? "not measured" : met ? "met" : "missed");
  const rows = withGoals.flatMap(({ path, name, goals }) =>
    goals.map(({ what, asked, unit, measured, met }) => [
      `[${name}](${path})`,
      what,
      unit === undefined ? asked : `${asked} ${unit}`,
      measured === null ? "-" : Number(measured.toPrecision(4)),
      verdict(met),
    ]),
  );
  const machines = new Set(
    withGoals.map(({ environment: { device, detail } }) => `${device} (${detail})`),
  );
  const met = rows.filter((row) => row.at(-1) === "met").length;
  return [
    `One layer of Llama-3-8B, on ${[...machines].join("; ")}; ${met} of ${rows.length} goals met:`,
    table(["case", "what", "asked", "measured", ""], rows),
  ].join("\n\n");
}

// ---- README.md -----------------------------------------------------------------------------------

const blocks = { methods: methodsBlock, demo: demoBlock, bench: benchBlock };
updateBlocks("README.md", blocks, "scripts/update-readme.mjs");
