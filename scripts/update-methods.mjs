// Fills the generated blocks of docs/methods.md from bench/results/cpu/eval.json, which
//   npx spindlekv eval --model test/model/recall.gguf --methods all --keep 0.5,0.3,0.2,0.1 --output <folder>
// writes as eval.json to its folder:
//
//   run       what was run
//   results   a line per method and keep value
//   equal     the subjects against the other methods at equal measured bytes
//   long      perplexity past the trained context, and memory while decoding
//   not-run   what was refused
//
// `--check` writes nothing and fails when a block is not what it should be.
import { readText } from "./support/files.mjs";
import { kNone, table, updateBlocks } from "./support/generated-blocks.mjs";

const kResult = "bench/results/cpu/eval.json";
const kPage = "docs/methods.md";
const kProtocols = ["hidden", "visible"];

const text = readText(kResult);
const report = text === undefined ? undefined : JSON.parse(text);
/** A block of the report; without one it says so. */
const of = (make) => () => (report === undefined ? kNone : make(report));

const interval = ({ low, high }, digits) => `[${low.toFixed(digits)}, ${high.toFixed(digits)}]`;
const estimate = (each, digits) =>
  each === undefined ? "-" : `${each.value.toFixed(digits)} ${interval(each, digits)}`;
const isChoice = (choice) => (row) => row.method === choice.method && row.keep === choice.keep;

function runBlock({ device, model, settings }) {
  const facts = Object.entries(settings).map(([name, value]) => `${name} ${value}`);
  return `[eval.json](../${kResult}): ${model} on ${device}; ${facts.join("; ")}.`;
}

function resultBlock({ rows, texts }) {
  const choices = [...rows, ...texts].filter((row, i, all) => all.findIndex(isChoice(row)) === i);
  const lines = choices.map((choice) => {
    const own = rows.filter(isChoice(choice));
    const [hidden, visible] = kProtocols.map((name) => own.find((row) => row.protocol === name));
    const loss = texts.find(isChoice(choice));
    return [
      `\`${choice.method}\``,
      choice.keep ?? "-",
      (hidden ?? visible ?? loss).bytes.value.toFixed(3),
      estimate(hidden?.recall, 2),
      estimate(visible?.recall, 2),
      estimate(loss?.perplexity, 2),
      hidden === undefined ? "-" : hidden.tokensPerSecond.toFixed(0),
    ];
  });
  return table(
    ["method", "keep", "bytes", "recall, hidden", "recall, visible", "perplexity", "tokens/s"],
    lines,
  );
}

/** Where a subject is ahead, behind and neither, by the interval of one difference. */
function verdicts(found, differenceOf, isBetter) {
  const compared = found.filter(({ how }) => how !== "none");
  const places = (list) =>
    list.map(({ keep, how }) => `${keep}${how === "interpolated" ? "*" : ""}`).join(", ") || "-";
  const isClear = (each) => {
    const { low, high } = differenceOf(each);
    return low > 0 || high < 0;
  };
  const ahead = compared.filter((each) => isClear(each) && isBetter(differenceOf(each).value));
  const behind = compared.filter((each) => isClear(each) && !isBetter(differenceOf(each).value));
  const even = compared.filter((each) => !isClear(each));
  return [places(ahead), places(behind), places(even), `${found.length - compared.length}`];
}

function equalBlock({ comparisons, textComparisons }) {
  const pairs = [...comparisons, ...textComparisons].filter(
    ({ method, baseline }, i, all) =>
      all.findIndex((each) => each.method === method && each.baseline === baseline) === i,
  );
  const lines = pairs.flatMap(({ method, baseline }) => {
    const own = (list) =>
      list.filter((each) => each.method === method && each.baseline === baseline);
    const name = `\`${method}\` against \`${baseline}\``;
    const answers = kProtocols.map((protocol) => [
      name,
      `answer, ${protocol}`,
      ...verdicts(
        own(comparisons).filter((each) => each.protocol === protocol),
        ({ differences }) => differences.logProbability,
        (value) => value > 0,
      ),
    ]);
    const loss = verdicts(
      own(textComparisons),
      ({ differences }) => differences.loss,
      (value) => value < 0,
    );
    return [...answers, [name, "perplexity", ...loss]];
  });
  const head = [
    "method",
    "measure",
    "ahead at keep",
    "behind at keep",
    "neither",
    "not comparable",
  ];
  return table(head, lines);
}

function longBlock({ longTexts, longDecodes, contextLength }) {
  const mean = (values) => values.reduce((sum, value) => sum + value, 0) / values.length;
  const methods = [...new Set(longTexts.map(({ method }) => method))];
  const ends = [0.5, 1, 2, 4].map((factor) => factor * contextLength);
  const lines = methods.map((method) => {
    const runs = longTexts.filter((run) => run.method === method);
    return [
      `\`${method}\``,
      ...ends.map((end, i) => {
        const inside = ({ from, to }) => to <= end && from >= (i === 0 ? 0 : ends[i - 1]);
        const losses = runs.flatMap(({ blocks }) => blocks.filter(inside).map(({ loss }) => loss));
        return losses.length === 0 ? "-" : Math.exp(mean(losses)).toFixed(2);
      }),
    ];
  });
  const ranges = ends.map((end, i) => `${i === 0 ? 0 : ends[i - 1]} to ${end}`);
  const kib = (bytes) => `${Math.round(bytes / 1024)} KiB`;
  const decodes = longDecodes.map(({ method, samples }) => {
    const behind = samples.slice(1);
    const used = behind.map(({ poolBytes }) => poolBytes);
    const reserved = behind.map(({ reservedBytes }) => reservedBytes);
    return [
      `\`${method}\``,
      samples.at(-1).step,
      ...[samples[0].poolBytes, Math.min(...used), Math.max(...used)].map(kib),
      kib(Math.max(...reserved)),
    ];
  });
  return [
    `Perplexity by position; the model was trained on ${contextLength}:`,
    table(["method", ...ranges], lines),
    "Pages of the pool in use while decoding:",
    table(["method", "tokens", "before", "least", "most", "taken from the device"], decodes),
  ].join("\n\n");
}

function notRunBlock({ notRun }) {
  if (notRun.length === 0) return "Everything ran.";
  return table(
    ["method", "keep", "missing", "reason"],
    notRun.map(({ method, keep, count, reason }) => [
      `\`${method}\``,
      keep ?? "-",
      count === 0 ? "all" : count,
      reason.replaceAll("|", "\\|"),
    ]),
  );
}

updateBlocks(
  kPage,
  {
    run: of(runBlock),
    results: of(resultBlock),
    equal: of(equalBlock),
    long: of(longBlock),
    "not-run": of(notRunBlock),
  },
  "scripts/update-methods.mjs",
);
