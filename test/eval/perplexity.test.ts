import { describe, expect, it } from "vitest";
import { generatedTexts } from "../../lib/eval/held-out.ts";
import { memoryOfDecode } from "../../lib/eval/long-decode.ts";
import { lossByPosition } from "../../lib/eval/long-text.ts";
import { runTexts } from "../../lib/eval/perplexity.ts";
import { summarizeTexts } from "../../lib/eval/text-summary.ts";
import { ReferenceCache } from "../runtimes/reference-cache.ts";
import { bytesPerSlot, type CacheLog, model, recentCache, tokenizer } from "./fixtures.ts";

const { layers, vocabulary } = model.config;
const texts = generatedTexts(tokenizer, [5, 6], { promptTokens: 150, restTokens: 40 });

/** -ln p of each token given all before it, in one pass and in float64. */
async function lossesInOnePass(tokens: Int32Array): Promise<number[]> {
  const cache = new ReferenceCache(model.config);
  const logits = await model.forward(tokens, cache, { logits: "all" });
  return Array.from(tokens.subarray(1), (token, i) => {
    const row = Float64Array.from(logits.subarray(i * vocabulary, (i + 1) * vocabulary));
    const largest = Math.max(...row);
    const sum = row.reduce((total, logit) => total + Math.exp(logit - largest), 0);
    return -(row[token] - largest - Math.log(sum));
  });
}

const meanOf = (values: readonly number[]) =>
  values.reduce((sum, value) => sum + value, 0) / values.length;

describe("the loss of held-out text", async () => {
  const log: CacheLog = { events: [], open: 0 };
  const trials = await runTexts({
    model,
    texts,
    methods: [
      { name: "full", hasTarget: false },
      { name: "recent", hasTarget: true },
    ],
    keeps: [0.5, 0.2],
    openCache: () => recentCache(log),
    pieceTokens: 16,
  });
  const loss = (method: string, keep: number | null, text: number) =>
    trials.find((trial) => trial.method === method && trial.keep === keep && trial.text === text)
      ?.loss;

  it("is that of one pass when everything is kept, whatever the pieces", async () => {
    for (const [i, { prompt, rest }] of texts.entries()) {
      const all = await lossesInOnePass(Int32Array.from([...prompt, ...rest]));
      expect(loss("full", null, i)).toBeCloseTo(meanOf(all.slice(prompt.length - 1)), 5);
    }
  });

  it("compresses all but the prompt's last token, and measures bytes then", () => {
    const seen = texts.map(({ prompt }) => prompt.length - 1);
    expect(log.events.slice(0, 3)).toEqual(
      ["full null", "recent 0.5", "recent 0.2"].map((name) => `${name} of ${seen[0]}`),
    );
    for (const { text, keep, bytes, tokens } of trials) {
      expect(tokens).toBe(seen[text]);
      expect(bytes).toBeCloseTo(Math.floor((keep ?? 1) * tokens) / tokens, 12);
    }
    expect(log.open).toBe(0);
  });

  it("rises where the facts that are asked for are gone", () => {
    const rows = summarizeTexts(trials);
    expect(rows.map(({ method, keep }) => [method, keep])).toEqual([
      ["full", null],
      ["recent", 0.5],
      ["recent", 0.2],
    ]);
    const [full, , fifth] = rows;
    expect(fifth.perplexity.value).toBeGreaterThan(full.perplexity.value * 1.1);
    expect(full.perplexity.value).toBeCloseTo(
      Math.exp(meanOf([loss("full", null, 0) ?? 0, loss("full", null, 1) ?? 0])),
      9,
    );
    for (const { perplexity } of rows) {
      expect(perplexity.low).toBeLessThanOrEqual(perplexity.value);
      expect(perplexity.high).toBeGreaterThanOrEqual(perplexity.value);
    }
  });

  it("is measured under the method's schedule: what maintain drops is gone", async () => {
    const [text] = texts;
    const capped = await runTexts({
      model,
      texts: [text],
      methods: [{ name: "full", hasTarget: false }],
      keeps: [],
      openCache: () => recentCache(log, 2),
      pieceTokens: 5,
    });
    expect(capped[0].loss).toBeGreaterThan((loss("full", null, 0) ?? 0) + 0.05);
  });

  it("is not measured again where it is known", async () => {
    const again = await runTexts({
      model,
      texts,
      methods: [{ name: "recent", hasTarget: true }],
      keeps: [0.5, 0.2],
      openCache: () => recentCache(log),
      isDone: ({ text, keep }) => text === 0 || keep === 0.2,
    });
    expect(again.map(({ text, keep }) => [text, keep])).toEqual([[1, 0.5]]);
    expect(again[0].loss).toBeCloseTo(loss("recent", 0.5, 1) ?? 0, 5);
  });
});

describe("the loss by position", () => {
  it("covers every token but the first, in blocks", async () => {
    const tokens = Int32Array.from([...texts[0].prompt, ...texts[0].rest]);
    const log: CacheLog = { events: [], open: 0 };
    const blocks = await lossByPosition({
      model,
      tokens,
      cache: recentCache(log),
      blockTokens: 64,
      pieceTokens: 24,
    });
    expect(blocks.map(({ from, to }) => [from, to])).toEqual([
      [0, 64],
      [64, 128],
      [128, tokens.length - 1],
    ]);
    const all = await lossesInOnePass(tokens);
    for (const { from, to, loss } of blocks)
      expect(loss).toBeCloseTo(meanOf(all.slice(from, to)), 5);
    expect(log.open).toBe(0);
  });
});

describe("the memory of a long decode", () => {
  const prompt = texts[0].prompt.subarray(0, 30);
  const decode = async (cap: number | undefined) => {
    const log: CacheLog = { events: [], open: 0 };
    const cache = recentCache(log, cap);
    const samples = await memoryOfDecode({ model, prompt, cache, steps: 25, every: 10, seed: 1 });
    expect(log.open).toBe(0);
    return samples;
  };
  const slots = ({ cacheBytes }: { cacheBytes: number }) => cacheBytes / (bytesPerSlot * layers);

  it("grows by a token a step without a cap", async () => {
    const samples = await decode(undefined);
    expect(samples.map(({ step }) => step)).toEqual([0, 10, 20, 25]);
    expect(samples.map(slots)).toEqual([30, 40, 50, 55]);
    for (const { step, stepMs } of samples) expect(stepMs > 0).toBe(step > 0);
  });

  it("is flat where a cap is maintained after each pass", async () => {
    expect((await decode(16)).map(slots)).toEqual([16, 16, 16, 16]);
  });
});
