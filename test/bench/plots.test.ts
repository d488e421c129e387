import { describe, expect, it } from "vitest";
import type { ArmResult, CaseResult } from "../../bench/harness/result.ts";
import { contextPlot, keptPlot, rooflinePlot } from "../../bench/report/plots.ts";

const spread = (median: number) => ({ median, low: median * 0.9, high: median * 1.1, count: 9 });

const arm = (name: string, milliseconds: number, more: Partial<ArmResult> = {}): ArmResult => ({
  name,
  milliseconds: spread(milliseconds),
  gigabytesPerSecond: 10,
  gigaflopsPerSecond: 90,
  share: spread(0.4),
  ...more,
});

const environment = {
  ...{ device: "Example CPU", detail: "avx2, 2 threads", threads: 2, os: "Linux", node: "v20" },
  ...{ memoryBytes: 1, commit: "0", modified: false, date: "2026-01-02", load: 0 },
};

function resultOf(
  suite: string,
  name: string,
  settings: readonly { slots: number; arms: readonly ArmResult[] }[],
): CaseResult {
  return {
    ...{
      suite,
      name,
      op: "attend",
      what: "",
      baseline: null,
      quick: false,
      environment,
      goals: [],
    },
    settings: settings.map(({ slots, arms }) => ({
      shape: `decode-${slots}`,
      sizes: { slots },
      bytes: 1000,
      flops: 1,
      facts: {},
      bandwidthOf: "copying",
      bandwidth: { copy: spread(25), fma: spread(100) },
      arms,
    })),
  };
}

/** Numbers of an attribute, in the order of the drawing. */
const numbers = (svg: string, element: string, attribute: string) =>
  [...svg.matchAll(new RegExp(`<${element}[^>]* ${attribute}="([^"]+)"`, "g"))].map((match) =>
    Number(match[1]),
  );

describe("the roofline bars", () => {
  const result = resultOf("ops", "attend", [
    { slots: 1024, arms: [arm("memory", 1, { share: spread(0.95) }), arm("arithmetic", 1)] },
  ]);
  const svg = rooflinePlot([result], "Example CPU")!;

  it("show the nearer roof: 95 % of the bandwidth, 90 % of the multiply-adds", () => {
    expect(svg).toContain("attend · decode-1024 · memory");
    expect(svg).toContain(">95 %<");
    expect(svg).toContain(">90 %<");
    expect(svg).not.toContain(">40 %<");
    const widths = numbers(svg, "rect", "width").filter((width) => width > 12);
    expect(widths).toHaveLength(2);
    expect(widths[0] / widths[1]).toBeCloseTo(95 / 90, 2);
  });

  it("are not there without results of the ops", () => {
    expect(rooflinePlot([{ ...result, suite: "cpu" }], "Example CPU")).toBeUndefined();
  });
});

describe("time against context", () => {
  const lengths = [1024, 2048, 4096];
  const result = resultOf(
    "cpu",
    "scaling-context",
    lengths.map((slots) => ({
      slots,
      arms: [arm("full", slots / 1000), arm("sdpa", slots / 100, { peer: "torch" })],
    })),
  );
  const svg = contextPlot([result], "Example CPU")!;

  it("is a line an arm, straight on logarithmic axes where time is proportional", () => {
    expect(svg).toContain(">torch: sdpa<");
    const lines = [...svg.matchAll(/<polyline points="([^"]+)"/g)].map((match) =>
      match[1].split(" ").map((point) => point.split(",").map(Number)),
    );
    expect(lines).toHaveLength(2);
    for (const [a, b, c] of lines) {
      expect(b[0] - a[0]).toBeCloseTo(c[0] - b[0], 0);
      expect(b[1] - a[1]).toBeCloseTo(c[1] - b[1], 0);
      expect(b[1]).toBeLessThan(a[1]); // upwards
    }
  });

  it("names its axes with units, and can be read on a dark page", () => {
    for (const text of ["context length (tokens)", "time of a decode step (ms)", ">1k<", ">1<"]) {
      expect(svg).toContain(text);
    }
    expect(svg).toContain("prefers-color-scheme:dark");
  });

  it("does not depend on the order of the settings", () => {
    const [setting] = result.settings;
    const turned = { ...result, settings: [...result.settings.slice(1), setting] };
    expect(contextPlot([turned], "Example CPU")).toBe(svg);
  });
});

describe("speed-up against bytes kept", () => {
  it("puts an arm of a fifth of the bytes and a quarter of the time at 4", () => {
    const result = resultOf("cpu", "scaling-kept", [
      {
        slots: 32768,
        arms: [
          arm("full", 4),
          arm("evicted, keep 0.2", 1, { bytes: 200, ratioToFirst: spread(0.25) }),
          arm("codebooks, keep 0.2", 2, { bytes: 200, ratioToFirst: spread(0.5) }),
        ],
      },
    ]);
    const svg = keptPlot([result], "Example CPU")!;
    expect(svg).toContain(">evicted<");
    expect(svg).toContain(">codebooks<");
    expect(svg).toContain("32.0k context");
    const [x, y] = [numbers(svg, "circle", "cx"), numbers(svg, "circle", "cy")];
    // Evicted, codebooks, ideal; each from 0.2 of the bytes to the full cache.
    expect(x[0]).toBe(x[2]);
    expect(x[1]).toBe(x[3]);
    expect(y[1]).toBe(y[3]);
    // ln 4 against ln 2 above the full cache.
    expect((y[1] - y[0]) / (y[3] - y[2])).toBeCloseTo(2, 2);
  });
});
