/** Results as text for a terminal. */
import type { Estimate } from "./statistics.js";
import type { Comparison, SummaryRow } from "./summary.js";

/** The results, one line per method, keep value and protocol. */
export function resultTable(rows: readonly SummaryRow[]): string {
  return formatTable(
    // biome-ignore format: headings
    [
      "protocol", "method", "keep", "bytes", "recall", "95 %", "log-prob", "95 %",
      "tokens/s", "attention ms", "compress ms",
    ],
    rows.map((row) => [
      row.protocol,
      row.method,
      row.keep === null ? "-" : String(row.keep),
      row.bytes.value.toFixed(4),
      row.recall.value.toFixed(3),
      interval(row.recall, 2),
      row.logProbability.value.toFixed(3),
      interval(row.logProbability, 2),
      row.tokensPerSecond.toFixed(0),
      row.attendMs.toFixed(2),
      row.compressMs.toFixed(1),
    ]),
  );
}

/** The comparisons; "*" marks a difference whose interval leaves out zero. */
export function comparisonTable(comparisons: readonly Comparison[]): string {
  return formatTable(
    ["protocol", "keep", "comparison", "recall", "95 %", "log-prob", "95 %", ""],
    comparisons.map(({ protocol, keep, method, baseline, recall, logProbability }) => [
      protocol,
      String(keep),
      `${method} - ${baseline}`,
      signed(recall.value),
      interval(recall, 2),
      signed(logProbability.value),
      interval(logProbability, 2),
      logProbability.low > 0 || logProbability.high < 0 ? "*" : "",
    ]),
  );
}

/** Columns as wide as their widest cell; text to the left, numbers to the right. */
export function formatTable(head: readonly string[], rows: readonly (readonly string[])[]): string {
  const widths = head.map((title, c) =>
    Math.max(title.length, ...rows.map((row) => row[c].length)),
  );
  const isText = head.map((_, c) => !rows.some((row) => /^[-+]?\d/.test(row[c])));
  const line = (cells: readonly string[]) =>
    cells
      .map((cell, c) => (isText[c] ? cell.padEnd(widths[c]) : cell.padStart(widths[c])))
      .join("  ")
      .trimEnd();
  const rule = widths.map((width) => "-".repeat(width)).join("  ");
  return [line(head), rule, ...rows.map(line)].join("\n");
}

function interval({ low, high }: Estimate, digits: number): string {
  return `[${low.toFixed(digits)}, ${high.toFixed(digits)}]`;
}

function signed(value: number): string {
  return `${value >= 0 ? "+" : ""}${value.toFixed(3)}`;
}
