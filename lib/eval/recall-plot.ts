/**
 * Recall against bytes: one panel per protocol, one line per method, 95 % intervals as bars.
 * Bytes are on a logarithmic axis, as fractions of the native f16 cache.
 */
import { chart } from "./chart.js";
import { nameOf } from "./choices.js";
import type { SummaryRow } from "./summary.js";
import { protocols } from "./trials.js";

const kBars = 20; // pixels over which the bars at one place spread at most
const kDodge = 2.5; // and pixels between two of them at most
/** Where the axis of bytes has numbers. */
export const byteTicks = [0.01, 0.02, 0.03, 0.06, 0.1, 0.15, 0.3, 0.5, 1];

/** Pixels between methods at one place. */
export function dodgeOf(methods: readonly string[]): number {
  return Math.min(kDodge, kBars / methods.length);
}

/** @param methods names in the order of their colours */
export function recallPlot(rows: readonly SummaryRow[], methods: readonly string[]): string {
  const shown = protocols.filter((protocol) => rows.some((row) => row.protocol === protocol));
  const bytes = rows.map((row) => row.bytes.value);
  return chart({
    title: "Recall against bytes kept, by method",
    x: {
      name: "bytes / native f16",
      isLogarithmic: true,
      from: Math.min(...bytes) / 1.25,
      to: Math.max(1, ...bytes) * 1.1,
      ticks: byteTicks,
    },
    y: { name: "recall", from: 0, to: 1, ticks: [0, 0.25, 0.5, 0.75, 1] },
    panels: shown.map((protocol) => ({
      title: title(protocol),
      curves: methods.map((name) => ({
        name,
        points: rows
          .filter((row) => row.protocol === protocol && row.method === name)
          .map((row) => ({
            x: row.bytes.value,
            y: row.recall.value,
            ...ends(row),
            hint: hint(row),
          })),
      })),
    })),
    names: methods,
    dodge: dodgeOf(methods),
  });
}

function title(protocol: string): string {
  return protocol === "hidden"
    ? "question hidden: compressed before it is asked"
    : "question visible: compressed after it is asked";
}

const ends = ({ recall: { low, high } }: SummaryRow) => ({ low, high });

function hint(row: SummaryRow): string {
  const { value, low, high } = row.recall;
  const interval = `[${low.toFixed(2)}, ${high.toFixed(2)}]`;
  return `${nameOf(row)}: recall ${value.toFixed(3)} ${interval} at ${row.bytes.value.toFixed(3)} of the bytes`;
}
