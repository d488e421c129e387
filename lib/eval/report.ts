/** Results as one self-contained HTML page and as JSON. */
import { htmlPage } from "./page.js";
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

export function reportHtml(report: Report): string {
  const { title, device, model, settings, rows, comparisons } = report;
  const methods = [...new Set(rows.map((row) => row.method))];
  const paired =
    comparisons.length === 0
      ? ""
      : `<h2>Paired differences</h2>
<p>The same prompts, at the same target; * where the interval of the log-probability leaves out zero.</p>
<pre>${escapeText(comparisonTable(comparisons))}</pre>`;
  return htmlPage(title, { device, model, ...settings }, [
    recallSection(rows, methods),
    `<h2>Bytes kept per layer</h2>
${spindlePlot(rows, methods)}
<p>First layer on top. The width of a bar is the fraction of the layer's native bytes that was kept; the scale
is the same within a row.</p>`,
    `<h2>Results</h2>\n<pre>${escapeText(resultTable(rows))}</pre>`,
    paired,
  ]);
}

/** Recall against bytes, with what the plot shows in words. */
export function recallSection(rows: readonly SummaryRow[], methods: readonly string[]): string {
  return `<h2>Recall against measured bytes</h2>
${recallPlot(rows, methods)}
<p>Bytes are measured right after compression, everything counted, as a fraction of the native f16 cache of
the same tokens (logarithmic axis). Bars are 95 % Wilson intervals; methods at one place are drawn side by side.</p>`;
}
