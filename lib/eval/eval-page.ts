/** The report of `spindlekv eval` as one self-contained HTML page. */
import { chart } from "./chart.js";
import { nameOf, type TrialChoice } from "./choices.js";
import type { CacheContents } from "./contents.js";
import type { EvalReport } from "./eval-report.js";
import { keptMap } from "./kept-map.js";
import type { MemorySample } from "./long-decode.js";
import { needleMap } from "./needle-map.js";
import { htmlPage } from "./page.js";
import { byteTicks, dodgeOf } from "./recall-plot.js";
import { recallSection } from "./report.js";
import { spindlePlot } from "./spindle-plot.js";
import { mean } from "./statistics.js";
import type { SummaryRow } from "./summary.js";
import { colour, escapeText } from "./svg.js";
import { equalBytesTable, resultTable, textTable } from "./table.js";
import { protocols } from "./trials.js";

const kFiguresPerRow = 7;
/** The keep value whose kept tokens are shown: the one that is nearest. */
const kShownKeep = 0.2;

/** Nothing is loaded from anywhere: plots are inline SVG, the style is in the page. */
export function evalReportHtml(report: EvalReport, contents: readonly CacheContents[]): string {
  const { title, device, model, settings, rows } = report;
  const methods = [...new Set([...rows, ...report.texts].map(({ method }) => method))];
  return htmlPage(title, { device, model, ...settings }, [
    notRunSection(report),
    ...(rows.length === 0 ? [] : recallSections(report, methods)),
    perplexitySection(report, methods),
    equalBytesSection(report),
    ...(rows.length === 0 ? [] : byteSections(report, methods)),
    keptSection(report, contents, methods),
    ...(rows.length === 0 ? [] : [timingSection(report, methods)]),
    longTextSection(report),
    longDecodeSection(report),
    ...(rows.length === 0 ? [] : [`<h2>Results</h2>\n<pre>${escapeText(resultTable(rows))}</pre>`]),
  ]);
}

function notRunSection({ notRun }: EvalReport): string {
  if (notRun.length === 0) return "";
  const lines = notRun.map(
    (each) =>
      `<li><b>${escapeText(nameOf(each))}</b> (${each.count}): ${escapeText(each.reason)}</li>`,
  );
  return `<h2>Not run</h2>
<p>Methods that refused, with the measurements that are missing for it.</p>
<ul>${lines.join("")}</ul>`;
}

function recallSections({ rows, cells }: EvalReport, methods: readonly string[]): string[] {
  const maps = protocols
    .map((protocol) => ({ protocol, own: cells.filter((cell) => cell.protocol === protocol) }))
    .filter(({ own }) => own.length > 0)
    .map(({ protocol, own }) => `<h3>question ${protocol}</h3>\n${needleMap(own, methods)}`);
  return [
    recallSection(rows, methods),
    `<h2>Recall by depth and length</h2>
<p>Downwards: where the asked fact is in the context; to the right: tokens of context. Dark: answered; white: not.</p>
${maps.join("\n")}`,
  ];
}

function perplexitySection({ texts }: EvalReport, methods: readonly string[]): string {
  if (texts.length === 0) return "";
  const curves = methods.map((name) => ({
    name,
    points: texts
      .filter((row) => row.method === name)
      .map(({ method, keep, bytes, perplexity: { value, low, high } }) => ({
        x: bytes.value,
        y: value,
        ...{ low, high },
        hint: `${nameOf({ method, keep })}: perplexity ${value.toFixed(3)} [${low.toFixed(3)}, ${high.toFixed(3)}] at ${bytes.value.toFixed(3)} of the bytes`,
      })),
  }));
  const plot = chart({
    title: "Perplexity against bytes kept, by method",
    x: { name: "bytes / native f16", isLogarithmic: true, ticks: byteTicks },
    y: { name: "perplexity", isLogarithmic: true },
    panels: [{ title: "held-out text behind the compressed prompt", curves }],
    names: methods,
    dodge: dodgeOf(methods),
  });
  return `<h2>Perplexity against measured bytes</h2>
${plot}
<p>The prompt of each text is compressed once; the rest is predicted token by token from the compressed cache.
Bars are 95 % bootstrap intervals over the texts.</p>
<pre>${escapeText(textTable(texts))}</pre>`;
}

function equalBytesSection({ comparisons, textComparisons }: EvalReport): string {
  if (comparisons.length + textComparisons.length === 0) return "";
  return `<h2>At equal measured bytes</h2>
<p>Differences on the same prompts and texts. "paired": the other method held the same bytes within 1 %;
"interpolated": between the two of its measurements whose bytes enclose ours; "none": it was not measured at such
bytes, and nothing is claimed. * where the interval of the log-probability, or of the loss, leaves out zero. A loss
below zero is in favour of the first.</p>
<pre>${escapeText(equalBytesTable(comparisons, textComparisons))}</pre>`;
}

function byteSections({ rows, heads }: EvalReport, methods: readonly string[]): string[] {
  const headBytes = ({ method, keep }: TrialChoice) =>
    heads.find((each) => each.method === method && each.keep === keep)?.bytes;
  const drawn = methods.filter((method) =>
    rows.some((row) => row.method === method && row.keep !== null),
  );
  const figures: string[] = [];
  for (let i = 0; i < drawn.length; i += kFiguresPerRow) {
    const shown = drawn.slice(i, i + kFiguresPerRow);
    figures.push(spindlePlot(rows, methods, { shown, headBytes }));
  }
  return [
    `<h2>Bytes per layer and head</h2>
${figures.join("\n")}
<p>First layer on top. The width of a bar is the fraction of the layer's native bytes that was kept; the scale
is the same within a row. A bar is cut into its KV heads, as one prompt had them.</p>`,
  ];
}

function keptSection(
  { places, shownPrompt }: EvalReport,
  contents: readonly CacheContents[],
  methods: readonly string[],
): string {
  const keeps = contents.flatMap(({ keep }) => keep ?? []);
  const distance = (keep: number) => Math.abs(Math.log(keep / kShownKeep));
  const shown = [...keeps].sort((a, b) => distance(a) - distance(b))[0];
  const own = contents.filter(({ keep }) => keep === null || keep === shown);
  const place = places[shownPrompt];
  if (own.length === 0 || place === undefined) return "";
  const colourOf = (method: string) => colour(methods.indexOf(method));
  return `<h2>Kept tokens of one prompt</h2>
<p>${own[0].tokens} tokens, the asked fact at depth ${place.depth} (vertical line), the question hidden. A row per layer and KV
head, first layer on top; a mark is a position that is still in the cache.</p>
${keptMap(own, colourOf, place.depth)}`;
}

function timingSection({ rows }: EvalReport, methods: readonly string[]): string {
  const protocol = rows[0]?.protocol;
  const plot = (
    title: string,
    unit: string,
    isLogarithmic: boolean,
    of: (row: SummaryRow) => number,
  ) =>
    chart({
      title,
      x: { name: "bytes / native f16", isLogarithmic: true, ticks: byteTicks },
      y: { name: unit, isLogarithmic },
      panels: [
        {
          title,
          curves: methods.map((name) => ({
            name,
            points: rows
              .filter((row) => row.method === name && row.protocol === protocol)
              .map((row) => ({
                x: row.bytes.value,
                y: of(row),
                hint: `${nameOf(row)}: ${of(row).toPrecision(3)} ${unit}`,
              })),
          })),
        },
      ],
      names: methods,
    });
  return `<h2>Timings</h2>
${plot("Decoding, the whole model", "tokens/s", false, (row) => row.tokensPerSecond)}
${plot("Compression of a prompt", "milliseconds", true, (row) => Math.max(0.01, row.compressMs))}
<p>Medians over all prompts of the protocol "${protocol}".</p>`;
}

function longTextSection({ longTexts, contextLength }: EvalReport): string {
  if (longTexts.length === 0) return "";
  const methods = [...new Set(longTexts.map(({ method }) => method))];
  const curves = methods.map((name) => {
    const runs = longTexts.filter(({ method }) => method === name);
    return {
      name,
      points: runs[0].blocks.map(({ to }, i) => {
        const loss = mean(runs.map(({ blocks }) => blocks[i].loss));
        const hint = `${name}: perplexity ${Math.exp(loss).toFixed(3)} up to position ${to}`;
        return { x: to, y: Math.exp(loss), hint };
      }),
    };
  });
  const plot = chart({
    title: "Perplexity by position, past the trained context",
    x: { name: "position", from: 0, mark: contextLength },
    y: { name: "perplexity of the block", isLogarithmic: true },
    panels: [{ title: `trained on ${contextLength} positions`, curves }],
    names: methods,
  });
  return `<h2>Past the trained context</h2>
${plot}
<p>Texts several times as long as what the model was trained on (vertical line), fed from their beginning; the mean
over the texts.</p>`;
}

function longDecodeSection({ longDecodes }: EvalReport): string {
  if (longDecodes.length === 0) return "";
  const methods = longDecodes.map(({ method }) => method);
  const curves = (of: (sample: MemorySample) => number) =>
    longDecodes.map(({ method, samples }) => ({
      name: method,
      points: samples.map((sample) => ({ x: sample.step, y: of(sample), hint: "" })),
    }));
  const plot = chart({
    title: "Memory while decoding",
    x: { name: "tokens decoded" },
    y: { name: "KiB", from: 0 },
    panels: [
      { title: "pages of the pool in use", curves: curves((sample) => sample.poolBytes / 1024) },
      { title: "taken from the device", curves: curves((sample) => sample.reservedBytes / 1024) },
    ],
    names: methods,
    isBare: true,
  });
  return `<h2>Memory while decoding</h2>
${plot}
<p>Pool statistics after each of the samples; a method with a cap in tokens stays flat.</p>`;
}
