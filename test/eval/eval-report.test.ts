import { describe, expect, it } from "vitest";
import { chart, tickText } from "../../lib/eval/chart.ts";
import { type CacheContents, parseRuns, runsOf } from "../../lib/eval/contents.ts";
import { evalReportHtml } from "../../lib/eval/eval-page.ts";
import { type EvalResults, evalReportJson, makeEvalReport } from "../../lib/eval/eval-report.ts";
import type { Trial } from "../../lib/eval/index.ts";

const keeps = [0.3, 0.1];
const places = [100, 200].flatMap((length) =>
  [0.25, 0.75].map((depth, i) => ({ length, depth, seed: length + i })),
);

/** "ours" recalls everything, "other" what is deep; both hold what they were asked to. */
function sampleResults(): EvalResults {
  const choices = [
    { method: "full", keep: null },
    ...["ours", "other"].flatMap((method) => keeps.map((keep) => ({ method, keep }))),
  ];
  const bytesOf = ({ method, keep }: { method: string; keep: number | null }) =>
    (keep ?? 1.02) * (method === "other" ? 1.004 : 1);
  const trials = (["hidden", "visible"] as const).flatMap((protocol) =>
    places.flatMap(({ length, depth }, prompt) =>
      choices.map((choice): Trial => {
        const isRecalled = choice.method !== "other" || depth > 0.5;
        return {
          ...choice,
          ...{ prompt, protocol, isRecalled },
          tokens: length,
          bytes: bytesOf(choice),
          layerBytes: [1.5 * bytesOf(choice), 0.5 * bytesOf(choice)],
          logProbability: isRecalled ? -0.01 : -3,
          ...{ compressMs: 2, decodeMs: 4, attendMs: 1 },
        };
      }),
    ),
  );
  const texts = [0, 1].flatMap((text) =>
    choices.map((choice) => ({
      ...{ ...choice, text, tokens: 100 },
      bytes: bytesOf(choice),
      loss: 1 + text / 10 + (choice.method === "other" ? 0.5 : 0),
    })),
  );
  const head = (kept: string) => ({ slots: 5, bytes: 1280, kept });
  const contents = choices.map(
    (choice): CacheContents => ({
      ...choice,
      tokens: 100,
      layers: [
        [head("0-3 50"), head("0-4")],
        [head("95-99"), head("0 20 40 60 80")],
      ],
    }),
  );
  const blocks = [0, 64].map((from) => ({ from, to: from + 64, loss: 1 + from / 64 }));
  const samples = [0, 100].map((step) => ({
    ...{
      step,
      stepMs: step === 0 ? 0 : 3,
      cacheBytes: 4096,
      poolBytes: 5120,
      reservedBytes: 2 ** 22,
    },
  }));
  return {
    ...{ trials, texts, contents },
    longTexts: [0, 1].flatMap((text) =>
      ["full", "ours"].map((method) => ({ method, text, blocks })),
    ),
    longDecodes: [{ method: "ours", samples }],
    notRun: [{ method: "fussy", keep: 0.1, reason: "wants <more>", count: 3 }],
  };
}

const about = {
  title: "a <title>",
  device: "CPU & co",
  model: "m.gguf",
  settings: { prompts: 4 },
  contextLength: 64,
  places,
  shownPrompt: 1,
};
const results = sampleResults();
const report = makeEvalReport(about, results, [{ method: "ours" }]);

describe("the report of an evaluation", () => {
  it("has a row per method, keep value and protocol, and one per text choice", () => {
    expect(report.rows).toHaveLength(2 * 5);
    expect(report.texts).toHaveLength(5);
    const [other] = report.texts.filter(({ method, keep }) => method === "other" && keep === 0.3);
    expect(other.perplexity.value).toBeCloseTo(Math.exp(1.55), 9);
  });

  it("compares its subject at equal bytes, where there are any", () => {
    const found = report.comparisons.filter(
      ({ protocol, keep }) => protocol === "hidden" && keep === 0.1,
    );
    expect(found.map(({ baseline, how }) => [baseline, how])).toEqual([
      ["full", "none"],
      ["other", "paired"],
    ]);
    expect(found[1].differences?.recall.value).toBe(0.5);
    expect(found[1].differences?.logProbability.value).toBeCloseTo(1.495, 9);
    const texts = report.textComparisons.filter(({ how }) => how === "paired");
    expect(texts).toHaveLength(2);
    for (const { differences } of texts) expect(differences?.loss.value).toBeCloseTo(-0.5, 9);
  });

  it("counts recall by depth and length", () => {
    const cells = report.cells.filter(({ method, keep, protocol }) => {
      return method === "other" && keep === 0.3 && protocol === "hidden";
    });
    expect(
      cells.map(({ length, depth, recalled, trials }) => [length, depth, recalled, trials]),
    ).toEqual([
      [100, 0.25, 0, 1],
      [100, 0.75, 1, 1],
      [200, 0.25, 0, 1],
      [200, 0.75, 1, 1],
    ]);
  });

  it("says it all in JSON but for the single trials and positions", () => {
    const parsed = JSON.parse(evalReportJson(report));
    expect(parsed).toMatchObject(about);
    expect(parsed.rows).toHaveLength(10);
    expect(parsed.heads[0]).toEqual({
      ...{ method: "full", keep: null },
      slots: [
        [5, 5],
        [5, 5],
      ],
      bytes: [
        [1280, 1280],
        [1280, 1280],
      ],
    });
    expect(parsed.notRun).toEqual(results.notRun);
    expect(parsed.trials).toBeUndefined();
  });
});

describe("the page of an evaluation", () => {
  const html = evalReportHtml(report, results.contents);
  const count = (pattern: RegExp) => html.match(pattern)?.length ?? 0;

  it("is self-contained, escaped and without missing numbers", () => {
    expect(html).not.toMatch(/<script|<link|<img|url\(|src=|@import/);
    expect(html.replaceAll("http://www.w3.org/2000/svg", "")).not.toMatch(/https?:/);
    expect(html).toContain("a &lt;title&gt;");
    expect(html).toContain("wants &lt;more&gt;");
    expect(html).not.toMatch(/NaN|undefined|Infinity/);
    for (const name of ["svg", "g", "text", "line", "path", "polyline", "rect", "title"]) {
      expect(count(new RegExp(`<${name}[ >]`, "g")), name).toBe(
        count(new RegExp(`</${name}>`, "g")),
      );
    }
  });

  it("has every section", () => {
    const sections = [...html.matchAll(/<h2>([^<]+)/g)].map(([, title]) => title);
    expect(sections).toEqual([
      "Not run",
      "Recall against measured bytes",
      "Recall by depth and length",
      "Perplexity against measured bytes",
      "At equal measured bytes",
      "Bytes per layer and head",
      "Kept tokens of one prompt",
      "Timings",
      "Past the trained context",
      "Memory while decoding",
      "Results",
    ]);
  });

  it("leaves out what was not measured", () => {
    const none = {
      ...results,
      trials: [],
      texts: [],
      contents: [],
      longTexts: [],
      longDecodes: [],
    };
    const empty = makeEvalReport(about, { ...none, notRun: [] }, [{ method: "ours" }]);
    expect(evalReportHtml(empty, [])).not.toMatch(/<h2>|<svg/);
  });

  it("marks each kept run at its place", () => {
    // 100 tokens are 840 pixels from 10 on; the first head keeps 0-3 and 50.
    const first = html.match(/<path d="([^"]+)"[^>]*><title>ours, layer 0, head 0: 5 of 100/)?.[1];
    expect(first).toMatch(/^M10\.0 [\d.]+H43\.6M430\.0 [\d.]+H438\.4$/);
  });

  it("cuts bars by the bytes of the heads", () => {
    expect(
      count(/<title>ours, keep 0.3, layer 0: 0.450 of its bytes; head [01]: 1280 bytes/g),
    ).toBe(2);
  });

  it("darkens a cell by its recall", () => {
    const cell = (depth: number) =>
      html.match(
        new RegExp(`fill-opacity="([\\d.]+)"><title>other keep 0.1, 200 tokens, depth ${depth}:`),
      )?.[1];
    expect([cell(0.25), cell(0.75)]).toEqual(["0", "1"]);
  });
});

describe("runs of positions", () => {
  it.each([
    [[], ""],
    [[4], "4"],
    [[0, 1, 2, 7, 9, 10], "0-2 7 9-10"],
  ])("%j are %j and back", (positions, text) => {
    expect(runsOf(positions)).toBe(text);
    const back = parseRuns(text).flatMap(({ first, length }) =>
      Array.from({ length }, (_, i) => first + i),
    );
    expect(back).toEqual(positions);
  });
});

describe("a chart", () => {
  const points = [
    { x: 1, y: 10, hint: "a" },
    { x: 100, y: 30, low: 20, high: 40, hint: "b" },
  ];
  const drawn = chart({
    title: "t",
    x: { name: "x", isLogarithmic: true },
    y: { name: "y" },
    panels: [{ title: "p", curves: [{ name: "n", points }] }],
    names: ["n"],
  });

  it("has round numbers on its axes", () => {
    const texts = [...drawn.matchAll(/<text[^>]*>([\d.]+)</g)].map(([, text]) => Number(text));
    expect(texts.slice(0, 4)).toEqual([10, 20, 30, 40]);
    expect(texts.slice(4)).toEqual([1, 2, 5, 10, 20, 50, 100]);
  });

  it("draws an interval where there is one", () => {
    expect(drawn.match(/stroke-opacity="0.55"/g)).toHaveLength(1);
  });

  it.each([
    [0.1, "0.1"],
    [0.30000000000000004, "0.3"],
    [2_500_000, "2.5 M"],
  ])("writes %d as %s", (value, text) => expect(tickText(value)).toBe(text));
});
