/** Results as text for a terminal. */
import type { EqualBytes } from "./equal-bytes.js";
import type { Estimate } from "./statistics.js";
import type { Comparison, SummaryRow } from "./summary.js";
import type { TextRow } from "./text-summary.js";
import type { Protocol } from "./trials.js";

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

/** Perplexities, one line per method and keep value. */
export function textTable(rows: readonly TextRow[]): string {
  return formatTable(
    ["method", "keep", "bytes", "perplexity", "95 %", "texts"],
    rows.map(({ method, keep, bytes, perplexity, texts }) => [
      method,
      keep === null ? "-" : String(keep),
      bytes.value.toFixed(4),
      perplexity.value.toFixed(3),
      interval(perplexity, 3),
      String(texts),
    ]),
  );
}

/** Comparisons at equal measured bytes; "*" marks a difference whose interval leaves out zero. */
export function equalBytesTable(
  answers: readonly ({ readonly protocol: Protocol } & EqualBytes<"recall" | "logProbability">)[],
  texts: readonly EqualBytes<"loss">[],
): string {
  const line = (what: string, found: EqualBytes<string>, of: readonly Estimate[]) => [
    what,
    found.keep === null ? "-" : String(found.keep),
    found.bytes.toFixed(4),
    `${found.method} - ${found.baseline}`,
    found.how === "none" ? `none (${found.units} of ${found.of})` : found.how,
    ...(of.length === 0 ? ["", "", ""] : difference(of[of.length - 1])),
    of.length < 2 ? "" : signed(of[0].value),
  ];
  return formatTable(
    ["what", "keep", "bytes", "comparison", "how", "log-prob or loss", "95 %", "", "recall"],
    [
      ...answers.map((found) => {
        const { recall, logProbability } = found.differences ?? {};
        const of = recall && logProbability ? [recall, logProbability] : [];
        return line(found.protocol, found, of);
      }),
      ...texts.map((found) =>
        line("text", found, found.differences ? [found.differences.loss] : []),
      ),
    ],
  );
}

function difference(estimate: Estimate): string[] {
  const isClear = estimate.low > 0 || estimate.high < 0;
  return [signed(estimate.value), interval(estimate, 3), isClear ? "*" : ""];
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
