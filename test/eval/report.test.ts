import { describe, expect, it } from "vitest";
import {
  comparisonTable,
  formatTable,
  makeReport,
  type Protocol,
  progressDisplay,
  reportHtml,
  reportJson,
  resultTable,
  type Trial,
} from "../../lib/eval/index.ts";

/** Made-up trials of three methods: `full` perfect, `other` recalls every second prompt, `ours` all. */
function sampleTrials(): Trial[] {
  const trials: Trial[] = [];
  const add = (prompt: number, protocol: Protocol, method: string, keep: number | null) => {
    const isRecalled = method !== "other" || prompt % 2 === 0;
    trials.push({
      prompt,
      protocol,
      method,
      keep,
      tokens: 100,
      bytes: keep ?? 1,
      layerBytes: [1.5, 0.5].map((share) => share * (keep ?? 1)),
      isRecalled,
      logProbability: isRecalled ? -0.01 : -3,
      compressMs: 2,
      decodeMs: 4,
      attendMs: 1,
    });
  };
  for (const protocol of ["hidden", "visible"] as const) {
    for (let prompt = 0; prompt < 8; prompt++) {
      add(prompt, protocol, "full", null);
      for (const keep of [0.3, 0.1]) {
        add(prompt, protocol, "other", keep);
        add(prompt, protocol, "ours", keep);
      }
    }
  }
  return trials;
}

const about = {
  title: "a <title>",
  device: "CPU & co",
  model: "m.gguf",
  settings: { questions: 8 },
};
const report = makeReport(about, sampleTrials(), "ours");

describe("the tables", () => {
  it("line up, text to the left, numbers to the right", () => {
    const table = formatTable(
      ["name", "n"],
      [
        ["a", "1"],
        ["long name", "10"],
      ],
    );
    expect(table.split("\n")).toEqual([
      "name        n",
      "---------  --",
      "a           1",
      "long name  10",
    ]);
  });

  it("have a line for each method, keep value and protocol", () => {
    const lines = resultTable(report.rows).split("\n");
    expect(lines).toHaveLength(2 + 2 * 5);
    expect(lines[2]).toMatch(
      /^hidden +full +- +1\.0000 +1\.000 +\[0\.68, 1\.00\] +-0\.010 .* 250 +1\.00 +2\.0$/,
    );
    expect(lines.filter((line) => /other +0\.1 +0\.1000 +0\.500/.test(line))).toHaveLength(2);
  });

  it("mark differences whose interval leaves out zero", () => {
    const lines = comparisonTable(report.comparisons).split("\n").slice(2);
    expect(lines).toHaveLength(4);
    for (const line of lines) expect(line).toMatch(/ours - other +\+0\.500 .*\+1\.495 .*\*$/);
  });
});

describe("the page", () => {
  const html = reportHtml(report);
  const count = (pattern: RegExp) => html.match(pattern)?.length ?? 0;

  it("is self-contained and escaped", () => {
    expect(html).not.toMatch(/<script|<link|<img|url\(|src=|@import/);
    expect(html.replaceAll("http://www.w3.org/2000/svg", "")).not.toMatch(/https?:/);
    expect(html).toContain("a &lt;title&gt;");
    expect(html).toContain("CPU &amp; co");
    expect(html).not.toMatch(/NaN|undefined|Infinity/);
  });

  it("closes every element it opens in the plots", () => {
    for (const name of ["svg", "g", "text", "line", "circle", "polyline", "rect", "title"]) {
      expect(count(new RegExp(`<${name}[ >]`, "g")), name).toBe(
        count(new RegExp(`</${name}>`, "g")),
      );
    }
  });

  it("shows each point with its interval and each layer of each method", () => {
    const points = 2 * (1 + 2 + 2);
    expect(count(/<title>(full|other|ours)[^<]*recall/g)).toBe(points);
    expect(count(/<polyline/g)).toBe(2 * 3);
    expect(count(/<rect/g)).toBe(2 * 2 * 2); // methods with a target, keep values, layers
    expect(html).toContain("ours, keep 0.1, layer 0: 0.150 of its bytes");
  });

  it("puts recall 1 above recall 0.5, fewer bytes to the left, thrice the bytes in thrice the width", () => {
    const at = (hint: string, attribute: string) =>
      Number(html.match(new RegExp(`${hint}.*?<circle[^>]* ${attribute}="([\\d.]+)"`))?.[1]);
    expect(at("ours keep 0.1:", "cy")).toBeLessThan(at("other keep 0.1:", "cy"));
    expect(at("ours keep 0.1:", "cx")).toBeLessThan(at("ours keep 0.3:", "cx"));
    expect(at("ours keep 0.3:", "cx")).toBeLessThan(at("full:", "cx"));
    const widths = [...html.matchAll(/<rect[^>]* width="([\d.]+)"/g)].map(([, width]) =>
      Number(width),
    );
    expect(widths[0] / widths[1]).toBeCloseTo(3, 1);
  });
});

describe("the JSON", () => {
  it("holds every trial, the summary and what was run", () => {
    const parsed = JSON.parse(reportJson(report));
    expect(parsed).toMatchObject(about);
    expect(parsed.trials).toEqual(sampleTrials());
    expect(parsed.rows).toHaveLength(10);
  });
});

describe("the progress display", () => {
  const show = (isTTY: boolean, stepMs: number) => {
    let clock = 0;
    let written = "";
    const stream = { isTTY, columns: 60, write: (text: string) => (written += text) };
    const step = progressDisplay(stream, () => clock);
    for (let done = 0; done <= 100; done++) {
      step({ done, total: 100, label: "working" });
      clock += stepMs;
    }
    return written;
  };

  it("redraws one line on a terminal, within its width, and ends it", () => {
    const written = show(true, 100);
    expect(written.match(/\n/g)).toHaveLength(1);
    expect(written.endsWith("\n")).toBe(true);
    for (const frame of written.split("\r").slice(1)) {
      expect(frame.split("\u001b[K")[0].length).toBeLessThan(60);
    }
    expect(written).toContain("[##############..............] 50/100  0:05, about 0:05");
  });

  it("writes a line every ten seconds elsewhere, the last one always", () => {
    const lines = show(false, 1000).trimEnd().split("\n");
    expect(lines).toHaveLength(11);
    expect(lines[1]).toBe("10/100  0:10, about 1:30 left  working");
    expect(lines.at(-1)).toBe("100/100  1:40  working");
    expect(show(false, 1000)).not.toContain("\r");
  });
});
