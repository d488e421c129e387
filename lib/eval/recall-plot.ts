/**
 * Recall against bytes: one panel per protocol, one line per method, 95 % intervals as bars.
 * Bytes are on a logarithmic axis, as fractions of the native f16 cache.
 */
import type { SummaryRow } from "./summary.js";
import { colour, drawing, element, label, line, linear } from "./svg.js";
import { protocols } from "./trials.js";

const panel = { width: 430, height: 320, left: 46, right: 14, top: 30, bottom: 44 };
const kLegendRow = 18;
const kDodge = 2.5; // pixels between methods at one place, so that their bars stay apart

/** @param methods names in the order of their colours */
export function recallPlot(rows: readonly SummaryRow[], methods: readonly string[]): string {
  const shown = protocols.filter((protocol) => rows.some((row) => row.protocol === protocol));
  const smallest = Math.min(...rows.map((row) => row.bytes.value));
  const largest = Math.max(1, ...rows.map((row) => row.bytes.value));
  const x = linear(
    Math.log(smallest / 1.25),
    Math.log(largest * 1.1),
    panel.left,
    panel.width - panel.right,
  );
  const y = linear(0, 1, panel.height - panel.bottom, panel.top);
  const panels = shown.map((protocol, i) => {
    const lines = methods.map((method, index) => {
      const points = rows
        .filter((row) => row.protocol === protocol && row.method === method)
        .sort((a, b) => a.bytes.value - b.bytes.value)
        .map((row) => ({
          row,
          x: x(Math.log(row.bytes.value)) + (index - (methods.length - 1) / 2) * kDodge,
        }));
      return series(points, y, colour(index));
    });
    const parts = [axes(x, y, smallest, largest), label(panel.left, 18, title(protocol)), ...lines];
    return element("g", { transform: `translate(${i * panel.width} 0)` }, ...parts);
  });
  const legend = methods.map((method, index) => {
    const at = {
      x: panel.left + (index % 4) * 200,
      y: panel.height + 8 + Math.floor(index / 4) * kLegendRow,
    };
    const mark = element("circle", { cx: at.x, cy: at.y, r: 4, fill: colour(index) });
    return mark + label(at.x + 9, at.y + 4, method);
  });
  const height = panel.height + 8 + Math.ceil(methods.length / 4) * kLegendRow;
  return drawing(panel.width * shown.length, height, "Recall against bytes kept, by method", [
    ...panels,
    ...legend,
  ]);
}

function title(protocol: string): string {
  return protocol === "hidden"
    ? "question hidden: compressed before it is asked"
    : "question visible: compressed after it is asked";
}

interface Point {
  readonly row: SummaryRow;
  readonly x: number;
}

function series(points: readonly Point[], y: (value: number) => number, stroke: string): string {
  const path = points.map(
    (point) => `${point.x.toFixed(1)},${y(point.row.recall.value).toFixed(1)}`,
  );
  const marks = points.map(({ row, x }) => {
    const { value, low, high } = row.recall;
    const hint = `${row.method}${row.keep === null ? "" : ` keep ${row.keep}`}: recall ${value.toFixed(3)} [${low.toFixed(2)}, ${high.toFixed(2)}] at ${row.bytes.value.toFixed(3)} of the bytes`;
    return element(
      "g",
      { stroke, fill: stroke },
      element("title", {}, hint),
      line(x, y(low), x, y(high), { "stroke-opacity": 0.55 }),
      element("circle", { cx: x, cy: y(value), r: 3.5 }),
    );
  });
  const curve = { points: path.join(" "), fill: "none", stroke, "stroke-width": 1.6 };
  return element("polyline", curve) + marks.join("");
}

function axes(
  x: (value: number) => number,
  y: (value: number) => number,
  smallest: number,
  largest: number,
): string {
  const grid = [0, 0.25, 0.5, 0.75, 1].map(
    (value) =>
      line(panel.left, y(value), panel.width - panel.right, y(value), { class: "grid" }) +
      label(panel.left - 6, y(value) + 4, String(value), { "text-anchor": "end" }),
  );
  const ticks = [0.01, 0.02, 0.03, 0.06, 0.1, 0.15, 0.3, 0.5, 1]
    .filter((value) => value >= smallest / 1.2 && value <= largest * 1.05)
    .map((value) => {
      const at = x(Math.log(value));
      const bottom = panel.height - panel.bottom;
      return (
        line(at, bottom, at, bottom + 4, { class: "axis" }) +
        label(at, bottom + 17, String(value), { "text-anchor": "middle" })
      );
    });
  const names =
    label((panel.left + panel.width) / 2, panel.height - 10, "bytes / native f16", {
      "text-anchor": "middle",
    }) +
    label(0, 0, "recall", {
      "text-anchor": "middle",
      transform: `translate(12 ${(panel.top + panel.height - panel.bottom) / 2}) rotate(-90)`,
    });
  return [...grid, ...ticks, names].join("");
}
