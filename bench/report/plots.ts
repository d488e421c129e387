/** The plots of docs/benchmarks.md, out of results alone: the same results give the same bytes. */
import { colour, drawing, element, label, line, linear } from "../../lib/eval/svg.js";
import type { ArmResult, CaseResult, SettingResult } from "../harness/result.ts";
import { percent, short } from "./format.ts";

const kWidth = 760;

/** Readable on white and on black pages alike; the coloured marks are. */
const kStyle =
  "text{font:12px system-ui,sans-serif;fill:#333}.title{font-weight:600}.quiet{fill:#666}" +
  ".grid{stroke:#ddd}.axis{stroke:#888}" +
  "@media(prefers-color-scheme:dark){text{fill:#ddd}.quiet{fill:#aaa}.grid{stroke:#3a3a3a}.axis{stroke:#999}" +
  "[fill='#000000']{fill:#fff}[stroke='#000000']{stroke:#fff}}";

function plot(height: number, title: string, parts: readonly string[]): string {
  const style = element("style", {}, kStyle);
  const heading = label(8, 18, title, { class: "title" });
  return `${drawing(kWidth, height, title, [style, heading, ...parts])}\n`;
}

// ---- Roofline bars -------------------------------------------------------------------------------

const bar = { left: 320, right: 60, top: 56, height: 18, thick: 12 };
const kBounds = ["of the memory bandwidth", "of the multiply-add peak"];

interface Bar {
  readonly name: string;
  /** Share of what the machine could do, and of what. */
  readonly share: number;
  readonly bound: number;
}

/** The nearer of the two roofs: the one that the op cannot be faster than. */
function barOf(op: string, { shape, bandwidth }: SettingResult, arm: ArmResult): Bar {
  const shares = [
    arm.share.median,
    bandwidth.fma === undefined ? 0 : arm.gigaflopsPerSecond / bandwidth.fma.median,
  ];
  const bound = shares[1] > shares[0] ? 1 : 0;
  return { name: `${op} · ${shape} · ${arm.name}`, share: shares[bound], bound };
}

/** One bar an arm of the suite `ops`; undefined without results. */
export function rooflinePlot(results: readonly CaseResult[], machine: string): string | undefined {
  const bars = results
    .filter(({ suite }) => suite === "ops")
    .flatMap(({ op, settings }) =>
      settings.flatMap((setting) => setting.arms.map((arm) => barOf(op, setting, arm))),
    );
  if (bars.length === 0) return undefined;
  const most = Math.max(1, ...bars.map(({ share }) => share));
  const x = linear(0, most, bar.left, kWidth - bar.right);
  const bottom = bar.top + bars.length * bar.height;
  const ticks = [0, 0.25, 0.5, 0.75, 1].map(
    (share) =>
      line(x(share), bar.top - 4, x(share), bottom, { class: share === 1 ? "axis" : "grid" }) +
      label(x(share), bottom + 16, percent(share), { "text-anchor": "middle" }),
  );
  const rows = bars.map(({ name, share, bound }, i) => {
    const y = bar.top + i * bar.height;
    const width = Math.max(1, x(share) - bar.left);
    return (
      label(bar.left - 8, y + 10, name, { "text-anchor": "end" }) +
      element("rect", { x: bar.left, y, width, height: bar.thick, fill: colour(bound) }) +
      label(bar.left + width + 5, y + 10, percent(share))
    );
  });
  const legend = kBounds.map(
    (name, i) =>
      element("rect", { x: 8 + i * 190, y: 30, width: 12, height: 12, fill: colour(i) }) +
      label(25 + i * 190, 40, name),
  );
  const axis = label(
    (bar.left + kWidth - bar.right) / 2,
    bottom + 34,
    "share of the nearer roof (%)",
    {
      "text-anchor": "middle",
      class: "quiet",
    },
  );
  return plot(bottom + 44, `How near each op is to its roof, on ${machine}`, [
    ...legend,
    ...ticks,
    ...rows,
    axis,
  ]);
}

// ---- Lines ---------------------------------------------------------------------------------------

const frame = { left: 64, right: 16, top: 34, bottom: 300, height: 348 };

interface Point {
  readonly x: number;
  readonly y: number;
  readonly low: number;
  readonly high: number;
}

interface Series {
  readonly name: string;
  readonly points: readonly Point[];
}

interface Axis {
  readonly title: string;
  readonly ticks: readonly number[];
  readonly show: (value: number) => string;
}

/** Lines on two logarithmic axes with quartiles as bars, and a legend below. */
function linePlot(title: string, series: readonly Series[], xAxis: Axis, yAxis: Axis): string {
  const points = series.flatMap((each) => each.points);
  const range = (values: readonly number[], pad: number): [number, number] => [
    Math.log(Math.min(...values) / pad),
    Math.log(Math.max(...values) * pad),
  ];
  const toX = linear(
    ...range(
      points.map(({ x }) => x),
      1.08,
    ),
    frame.left,
    kWidth - frame.right,
  );
  const toY = linear(
    ...range(
      points.flatMap(({ low, high }) => [low, high]),
      1.15,
    ),
    frame.bottom,
    frame.top,
  );
  const x = (value: number) => toX(Math.log(value));
  const y = (value: number) => toY(Math.log(value));
  const isInside = (at: number, low: number, high: number) => at >= low - 0.5 && at <= high + 0.5;
  const grid = [
    ...xAxis.ticks
      .filter((value) => isInside(x(value), frame.left, kWidth - frame.right))
      .map(
        (value) =>
          line(x(value), frame.top, x(value), frame.bottom, { class: "grid" }) +
          label(x(value), frame.bottom + 16, xAxis.show(value), { "text-anchor": "middle" }),
      ),
    ...yAxis.ticks
      .filter((value) => isInside(y(value), frame.top, frame.bottom))
      .map(
        (value) =>
          line(frame.left, y(value), kWidth - frame.right, y(value), { class: "grid" }) +
          label(frame.left - 6, y(value) + 4, yAxis.show(value), { "text-anchor": "end" }),
      ),
    line(frame.left, frame.bottom, kWidth - frame.right, frame.bottom, { class: "axis" }),
    line(frame.left, frame.top, frame.left, frame.bottom, { class: "axis" }),
    label((frame.left + kWidth) / 2, frame.bottom + 34, xAxis.title, {
      "text-anchor": "middle",
      class: "quiet",
    }),
    label(0, 0, yAxis.title, {
      "text-anchor": "middle",
      class: "quiet",
      transform: `translate(16 ${(frame.top + frame.bottom) / 2}) rotate(-90)`,
    }),
  ];
  const curves = series.map(({ points: own }, i) => {
    const stroke = colour(i);
    const path = own.map((point) => `${x(point.x).toFixed(1)},${y(point.y).toFixed(1)}`).join(" ");
    const marks = own.map(
      (point) =>
        line(x(point.x), y(point.low), x(point.x), y(point.high), {
          stroke,
          "stroke-opacity": 0.5,
        }) + element("circle", { cx: x(point.x), cy: y(point.y), r: 3.2, fill: stroke }),
    );
    const curve = { points: path, fill: "none", stroke, "stroke-width": 1.8 };
    return element("polyline", curve) + marks.join("");
  });
  const legend = series.map(({ name }, i) => {
    const [cx, cy] = [frame.left + 6 + (i % 2) * 340, frame.height + 6 + Math.floor(i / 2) * 18];
    return element("circle", { cx, cy: cy - 4, r: 4, fill: colour(i) }) + label(cx + 10, cy, name);
  });
  const height = frame.height + 8 + Math.ceil(series.length / 2) * 18;
  return plot(height, title, [...grid, ...curves, ...legend]);
}

const powersOfTwo = Array.from({ length: 24 }, (_, i) => 2 ** i);
const kContextAxis: Axis = {
  title: "context length (tokens)",
  ticks: powersOfTwo.map((power) => 1024 * power),
  show: (value) => `${value / 1024}k`,
};
const kTimeAxis: Axis = {
  title: "time of a decode step (ms)",
  ticks: [-3, -2, -1, 0, 1, 2, 3, 4].map((exponent) => 10 ** exponent),
  show: String,
};

const armName = ({ name, peer }: ArmResult) => (peer === undefined ? name : `${peer}: ${name}`);

/** Time against context length, from a result named `scaling-context`. */
export function contextPlot(results: readonly CaseResult[], machine: string): string | undefined {
  const result = results.find(({ name }) => name === "scaling-context");
  if (result === undefined) return undefined;
  const names = [...new Set(result.settings.flatMap(({ arms }) => arms.map(armName)))];
  const series = names.map((name) => ({
    name,
    points: result.settings
      .flatMap(({ sizes, arms }) =>
        arms
          .filter((arm) => armName(arm) === name)
          .map(({ milliseconds: { median, low, high } }) => ({
            ...{ x: sizes.slots, y: median },
            ...{ low, high },
          })),
      )
      .sort((a, b) => a.x - b.x),
  }));
  const title = `Decode of one token over one layer, f16, on ${machine}`;
  return linePlot(title, series, kContextAxis, kTimeAxis);
}

const kKeptAxis: Axis = {
  title: "bytes kept / bytes of the full cache",
  ticks: [0.05, 0.1, 0.2, 0.3, 0.5, 1],
  show: String,
};
const kSpeedupAxis: Axis = {
  title: "times faster than the full cache",
  ticks: [0.5, 1, 2, 3, 4, 5, 6, 8, 10, 15, 20],
  show: String,
};

/** Speed-up against bytes kept, from a result named `scaling-kept`, whose first arm is the full cache. */
export function keptPlot(results: readonly CaseResult[], machine: string): string | undefined {
  const setting = results.find(({ name }) => name === "scaling-kept")?.settings[0];
  if (setting === undefined) return undefined;
  const [, ...arms] = setting.arms;
  const kind = (name: string) => name.replace(/,? keep .*$/, "");
  const kinds = [...new Set(arms.map(({ name }) => kind(name)))];
  const full = { x: 1, y: 1, low: 1, high: 1 };
  const measured = kinds.map((name) => ({
    name,
    points: [
      full,
      ...arms
        .filter((arm) => kind(arm.name) === name)
        .map(({ bytes = setting.bytes, ratioToFirst }) => ({
          x: bytes / setting.bytes,
          y: 1 / ratioToFirst!.median,
          low: 1 / ratioToFirst!.high,
          high: 1 / ratioToFirst!.low,
        })),
    ].sort((a, b) => a.x - b.x),
  }));
  const kept = measured.flatMap(({ points }) => points.map(({ x }) => x));
  const ideal = [...new Set(kept)]
    .sort((a, b) => a - b)
    .map((x) => ({ x, y: 1 / x, low: 1 / x, high: 1 / x }));
  const title = `Speed-up of a decode step against bytes kept, ${short(setting.sizes.slots / 1024)}k context, on ${machine}`;
  const series = [...measured, { name: "as many times faster as fewer bytes", points: ideal }];
  return linePlot(title, series, kKeptAxis, kSpeedupAxis);
}
