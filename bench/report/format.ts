/** Figures and tables as text. */
import type { Goal } from "../harness/result.ts";
import type { Spread } from "../harness/statistics.ts";

export interface Table {
  readonly head: readonly string[];
  readonly rows: readonly (readonly string[])[];
}

export const percent = (value: number) => `${(100 * value).toFixed(0)} %`;

export const ratio = (value: number) => value.toFixed(3);

/** Three significant digits, two below 1; without exponents. */
export function short(value: number): string {
  if (value >= 100) return value.toFixed(0);
  if (value >= 10) return value.toFixed(1);
  return value >= 0.1 ? value.toFixed(2) : String(Number(value.toPrecision(3)));
}

export const withRange = (
  { median, low, high }: Pick<Spread, "median" | "low" | "high">,
  show: (value: number) => string,
) => `${show(median)} [${show(low)}, ${show(high)}]`;

/** What a goal's figure reads like; a dash when it was not measured. */
export function measuredText({ measured, low, high }: Goal): string {
  if (measured === null) return "-";
  if (low === undefined || high === undefined) return ratio(measured);
  return withRange({ median: measured, low, high }, ratio);
}

export const unitText = ({ asked, unit }: Goal) =>
  unit === undefined ? asked : `${asked} ${unit}`;

/** "met", "missed", or why there is no figure. */
export function verdict({ met, because }: Goal): string {
  if (met === null) return because === undefined ? "not measured" : `not measured: ${because}`;
  return met ? "met" : "missed";
}

export function markdownTable({ head, rows }: Table): string {
  const line = (cells: readonly string[]) => `| ${cells.join(" | ")} |`;
  return [line(head), line(head.map(() => "---")), ...rows.map(line)].join("\n");
}
