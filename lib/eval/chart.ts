/** Curves over a number: panels side by side with shared axes, one curve per name, intervals as bars. */
import { colour, dash, drawing, element, escapeText, label, line, linear } from "./svg.js";

export interface ChartPoint {
  readonly x: number;
  readonly y: number;
  /** Ends of the interval; absent: no bar. */
  readonly low?: number;
  readonly high?: number;
  /** What the point says when it is pointed at. */
  readonly hint: string;
}

export interface ChartCurve {
  readonly name: string;
  readonly points: readonly ChartPoint[];
}

export interface ChartPanel {
  readonly title: string;
  readonly curves: readonly ChartCurve[];
}

export interface ChartAxis {
  readonly name: string;
  readonly isLogarithmic?: boolean;
  /** Ends of the axis; default: those of the points, intervals included. */
  readonly from?: number;
  readonly to?: number;
  /** Where to write numbers, as far as they lie on the axis; default: round numbers. */
  readonly ticks?: readonly number[];
  /** A place to mark by a line across the panel. */
  readonly mark?: number;
}

export interface Chart {
  /** What a screen reader says. */
  readonly title: string;
  readonly x: ChartAxis;
  readonly y: ChartAxis;
  readonly panels: readonly ChartPanel[];
  /** Names in the order of their colours. */
  readonly names: readonly string[];
  /** Pixels between curves at one place, so that their bars stay apart. Default 0. */
  readonly dodge?: number;
  /** Draw no circles, for curves of many points. */
  readonly isBare?: boolean;
}

const kWidth = 860;
const panel = { height: 320, left: 52, right: 14, top: 30, bottom: 44 };
const legend = { row: 18, left: 42, mark: 30, letter: 7 };
const kMargin = 1.1; // room beside the outermost points of a logarithmic axis
const kTicks = 5;
const kFewTicks = 3;

export function chart(options: Chart): string {
  const { panels, names, dodge = 0 } = options;
  const width = kWidth / panels.length;
  const all = panels.flatMap(({ curves }) => curves.flatMap(({ points }) => points));
  const values = all.map((point) => point.x);
  const x = scale(options.x, values, panel.left, width - panel.right);
  const heights = all.flatMap(({ y, low = y, high = y }) => [low, y, high]);
  const y = scale(options.y, heights, panel.height - panel.bottom, panel.top);
  const drawn = panels.map(({ title, curves }, i) => {
    const parts = curves.map(({ name, points }) => {
      const index = names.indexOf(name);
      const shift = (index - (names.length - 1) / 2) * dodge;
      const places = [...points]
        .sort((a, b) => a.x - b.x)
        .map((point) => ({ ...point, at: x.at(point.x) + shift }));
      return curve(places, y.at, index, options.isBare === true);
    });
    return element(
      "g",
      { transform: `translate(${i * width} 0)` },
      axes(options, x, y, width),
      label(panel.left, 18, title),
      ...parts,
    );
  });
  const longest = Math.max(...names.map((name) => name.length));
  const columns = Math.max(1, Math.floor(kWidth / (legend.mark + legend.letter * longest)));
  const marks = names.map((name, index) => {
    const top = panel.height + 8 + Math.floor(index / columns) * legend.row;
    const left = legend.left + (index % columns) * (kWidth / columns);
    const stroke = { stroke: colour(index), "stroke-width": 1.6, "stroke-dasharray": dash(index) };
    const mark =
      line(left - 10, top, left + 10, top, stroke) +
      element("circle", { cx: left, cy: top, r: 3, fill: colour(index) });
    return mark + label(left + 15, top + 4, name);
  });
  const height = panel.height + 8 + Math.ceil(names.length / columns) * legend.row;
  return drawing(kWidth, height, options.title, [...drawn, ...marks]);
}

interface Scale {
  readonly at: (value: number) => number;
  readonly ticks: readonly number[];
}

function scale(axis: ChartAxis, values: readonly number[], a: number, b: number): Scale {
  const isLog = axis.isLogarithmic === true;
  const smallest = values.reduce(
    (least, value) => Math.min(least, value),
    Number.POSITIVE_INFINITY,
  );
  const largest = values.reduce((most, value) => Math.max(most, value), Number.NEGATIVE_INFINITY);
  const from = axis.from ?? (isLog ? smallest / kMargin : smallest);
  const to = axis.to ?? (isLog ? largest * kMargin : largest);
  const place = isLog ? (value: number) => Math.log(value) : (value: number) => value;
  const onAxis = linear(place(from), place(to) === place(from) ? place(from) + 1 : place(to), a, b);
  const within = (ticks: readonly number[]) =>
    ticks.filter((value) => value >= from && value <= to);
  const powers = isLog ? within(axis.ticks ?? logTicks(from, to)) : [];
  return {
    at: (value) => onAxis(place(value)),
    // A short piece of a logarithmic axis has few powers on it.
    ticks: powers.length < kFewTicks ? within(axis.ticks ?? linearTicks(from, to)) : powers,
  };
}

/** Round numbers, about kTicks of them. */
function linearTicks(from: number, to: number): number[] {
  const rough = (to - from) / kTicks;
  if (!(rough > 0)) return [from];
  const power = 10 ** Math.floor(Math.log10(rough));
  const step = ([1, 2, 5].find((factor) => factor * power >= rough) ?? 10) * power;
  const first = Math.ceil(from / step);
  return Array.from({ length: Math.floor(to / step) - first + 1 }, (_, i) => (first + i) * step);
}

/** 1, 2 and 5 of each power of ten. */
function logTicks(from: number, to: number): number[] {
  const ticks: number[] = [];
  for (let power = Math.floor(Math.log10(from)); power <= Math.log10(to); power++) {
    ticks.push(...[1, 2, 5].map((factor) => factor * 10 ** power));
  }
  return ticks;
}

/** A number as a tick says it. */
export function tickText(value: number): string {
  if (Math.abs(value) >= 1e6) return `${Number((value / 1e6).toPrecision(4))} M`;
  return String(Number(value.toPrecision(4)));
}

type Place = ChartPoint & { readonly at: number };

function curve(
  points: readonly Place[],
  y: (value: number) => number,
  index: number,
  isBare: boolean,
): string {
  const stroke = colour(index);
  const path = points.map((point) => `${point.at.toFixed(1)},${y(point.y).toFixed(1)}`).join(" ");
  const marks = points.map(({ at, y: value, low, high, hint }) => {
    const bar =
      low === undefined || high === undefined
        ? ""
        : line(at, y(low), at, y(high), { "stroke-opacity": 0.55 });
    const circle = element("circle", { cx: at, cy: y(value), r: 3.5 });
    return element(
      "g",
      { stroke, fill: stroke },
      element("title", {}, escapeText(hint)),
      bar,
      circle,
    );
  });
  const look = { fill: "none", stroke, "stroke-width": 1.6, "stroke-dasharray": dash(index) };
  return element("polyline", { points: path, ...look }) + (isBare ? "" : marks.join(""));
}

function axes({ x: xAxis, y: yAxis }: Chart, x: Scale, y: Scale, width: number): string {
  const bottom = panel.height - panel.bottom;
  const grid = y.ticks.map(
    (value) =>
      line(panel.left, y.at(value), width - panel.right, y.at(value), { class: "grid" }) +
      label(panel.left - 6, y.at(value) + 4, tickText(value), { "text-anchor": "end" }),
  );
  const ticks = x.ticks.map(
    (value) =>
      line(x.at(value), bottom, x.at(value), bottom + 4, { class: "axis" }) +
      label(x.at(value), bottom + 17, tickText(value), { "text-anchor": "middle" }),
  );
  const middle = { "text-anchor": "middle" };
  const names =
    label((panel.left + width) / 2, panel.height - 10, xAxis.name, middle) +
    label(0, 0, yAxis.name, {
      ...middle,
      transform: `translate(12 ${(panel.top + bottom) / 2}) rotate(-90)`,
    });
  const mark =
    xAxis.mark === undefined
      ? ""
      : line(x.at(xAxis.mark), panel.top, x.at(xAxis.mark), bottom, { class: "needle" });
  return [...grid, ...ticks, names, mark].join("");
}
