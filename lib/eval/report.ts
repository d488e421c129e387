/** Results as one self-contained HTML page and as JSON. */
import { recallPlot } from "./recall-plot.js";
import { spindlePlot } from "./spindle-plot.js";
import { type Comparison, compare, type SummaryRow, summarize } from "./summary.js";
import { escapeText } from "./svg.js";
import { comparisonTable, resultTable } from "./table.js";
import type { Trial } from "./trials.js";

/** Everything a reader needs to know what was run and what came out. */
export interface Report {
  readonly title: string;
  /** Device the cache lived on, in words. */
  readonly device: string;
  readonly model: string;
  /** Settings worth stating, name to value. */
  readonly settings: Readonly<Record<string, string | number>>;
  readonly rows: readonly SummaryRow[];
  readonly comparisons: readonly Comparison[];
  readonly trials: readonly Trial[];
}

/** Condenses trials into a report. @param subject method to compare with the others, if it ran */
export function makeReport(
  about: Pick<Report, "title" | "device" | "model" | "settings">,
  trials: readonly Trial[],
  subject: string,
): Report {
  return { ...about, rows: summarize(trials), comparisons: compare(trials, subject), trials };
}

export function reportJson(report: Report): string {
  return `${JSON.stringify(report, null, 1)}\n`;
}

/** Nothing is loaded from anywhere: plots are inline SVG, the style is in the page. */
export function reportHtml(report: Report): string {
  const { title, rows, comparisons } = report;
  const methods = [...new Set(rows.map((row) => row.method))];
  const facts = { device: report.device, model: report.model, ...report.settings };
  const list = Object.entries(facts).map(
    ([name, value]) => `<dt>${escapeText(name)}</dt><dd>${escapeText(String(value))}</dd>`,
  );
  const paired =
    comparisons.length === 0
      ? ""
      : `<h2>Paired differences</h2>
<p>The same prompts, at the same target; * where the interval of the log-probability leaves out zero.</p>
<pre>${escapeText(comparisonTable(comparisons))}</pre>`;
  return `<!doctype html>
<html lang="en">
<meta charset="utf-8">
<meta name="viewport" content="width=device-width">
<title>${escapeText(title)}</title>
<style>${style}</style>
<h1>${escapeText(title)}</h1>
<dl>${list.join("")}</dl>
<h2>Recall against bytes</h2>
${recallPlot(rows, methods)}
<p>Bytes are measured right after compression, everything counted, as a fraction of the native f16 cache of
the same tokens (logarithmic axis). Bars are 95 % Wilson intervals; methods at one place are drawn side by side.</p>
<h2>Bytes kept per layer</h2>
${spindlePlot(rows, methods)}
<p>First layer on top. The width of a bar is the fraction of the layer's native bytes that was kept; the scale
is the same within a row.</p>
<h2>Results</h2>
<pre>${escapeText(resultTable(rows))}</pre>
${paired}
</html>
`;
}

const style = `
body { font: 15px/1.5 system-ui, sans-serif; color: #1c1c1c; background: #fff; max-width: 920px;
  margin: 2rem auto; padding: 0 1rem }
h1 { font-size: 1.5rem } h2 { font-size: 1.15rem; margin-top: 2rem }
dl { display: grid; grid-template-columns: max-content 1fr; gap: 0 1rem } dd { margin: 0 } dt { color: #666 }
svg { width: 100%; height: auto } svg text { font-size: 12px; fill: currentColor }
svg text.small { font-size: 9.5px; fill: #666 }
.grid { stroke: #e4e4e4 } .axis { stroke: #666 }
pre { overflow-x: auto; font-size: 12px; line-height: 1.4 }
`;
