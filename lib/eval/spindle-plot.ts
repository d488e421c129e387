/**
 * Where the bytes are: per method and keep value a figure with one bar per layer, first layer on top,
 * its width the fraction of the layer's native bytes that was kept. Bars are centred, so a method that
 * spends more on some layers shows its outline: a column, a pyramid, a spindle. Where the bytes of each KV
 * head are known, a bar is cut into its heads.
 */
import type { TrialChoice } from "./choices.js";
import type { SummaryRow } from "./summary.js";
import { colour, drawing, element, label, line, linear } from "./svg.js";

const figure = { width: 118, height: 112, left: 124, top: 40 };
const kEverything = 0.9; // from this fraction of the native bytes on, there is no shape to see
const kBarHeight = 11;
const kBarPitch = 14;

/** Bytes of each KV head by layer, [layers][kvHeads], where they are known. */
export type HeadBytes = (choice: TrialChoice) => readonly (readonly number[])[] | undefined;

export interface SpindlePlotOptions {
  /** Methods with a figure; default: all. */
  readonly shown?: readonly string[];
  readonly headBytes?: HeadBytes;
}

/** @param methods names in the order of their colours; those that keep everything are left out */
export function spindlePlot(
  rows: readonly SummaryRow[],
  methods: readonly string[],
  { shown: wanted = methods, headBytes = () => undefined }: SpindlePlotOptions = {},
): string {
  const protocol = rows[0]?.protocol;
  const shown = rows.filter(
    (row) =>
      row.protocol === protocol && row.bytes.value < kEverything && wanted.includes(row.method),
  );
  const columns = methods.filter((method) => shown.some((row) => row.method === method));
  const keeps = [...new Set(shown.map((row) => row.keep))];
  const layers = shown[0]?.layerBytes.length ?? 0;
  const rowHeight = Math.max(figure.height, layers * kBarPitch + 22);

  const heads = columns.map((method, c) => {
    const [name, ...options] = method.split(":");
    const look = {
      "text-anchor": "middle",
      style: `fill: ${colour(methods.indexOf(method))}; font-weight: 600`,
    };
    return (
      label(centre(c), options.length > 0 ? 14 : 22, name, look) +
      (options.length === 0
        ? ""
        : label(centre(c), 27, options.join(" "), { class: "small", "text-anchor": "middle" }))
    );
  });
  const bands = keeps.map((keep, r) => {
    const top = figure.top + r * rowHeight;
    const inBand = shown.filter((row) => row.keep === keep);
    const widest = Math.max(...inBand.flatMap((row) => row.layerBytes));
    const width = linear(0, widest, 0, figure.width - 14);
    const figures = inBand.map((row) => {
      const c = columns.indexOf(row.method);
      return bars(row, headBytes(row), centre(c), top, width, colour(methods.indexOf(row.method)));
    });
    const scale = top + layers * kBarPitch + 10;
    const legend =
      label(4, top + 12, keep === null ? "own size" : `keep ${keep}`) +
      line(6, scale, 6 + width(widest), scale, { class: "axis" }) +
      label(6, scale - 4, `${widest.toFixed(2)} of a layer`, { class: "small" });
    return legend + figures.join("");
  });
  const size = {
    x: figure.left + columns.length * figure.width,
    y: figure.top + keeps.length * rowHeight,
  };
  return drawing(size.x, size.y, "Bytes kept per layer, by method", [...heads, ...bands]);
}

function centre(column: number): number {
  return figure.left + (column + 0.5) * figure.width;
}

function bars(
  row: SummaryRow,
  headBytes: readonly (readonly number[])[] | undefined,
  middle: number,
  top: number,
  width: (value: number) => number,
  fill: string,
): string {
  const drawn = row.layerBytes.map((fraction, layer) => {
    const name = `${row.method}, keep ${row.keep ?? "-"}, layer ${layer}`;
    const hint = `${name}: ${fraction.toFixed(3)} of its bytes`;
    const y = top + layer * kBarPitch;
    const heads = headBytes?.[layer] ?? [1];
    const sum = heads.reduce((total, bytes) => total + bytes, 0);
    let left = middle - width(fraction) / 2;
    return heads
      .map((bytes, head) => {
        const share = sum === 0 ? 0 : bytes / sum;
        const box = { x: left, y, width: width(fraction * share), height: kBarHeight };
        left += box.width;
        const text = heads.length === 1 ? hint : `${hint}; head ${head}: ${bytes} bytes`;
        const look = { fill, rx: 2, ...(head % 2 === 1 ? { "fill-opacity": 0.6 } : {}) };
        return element("rect", { ...box, ...look }, element("title", {}, text));
      })
      .join("");
  });
  return drawn.join("");
}
