import { describe, expect, it } from "vitest";
import {
  compare,
  needle,
  runTrials,
  summarize,
  type TrialCache,
  type TrialKey,
  type TrialProgress,
  tokenizeNeedle,
} from "../../lib/eval/index.ts";
import { argumentError } from "../../lib/errors.ts";
import { type CacheLog, model, recentCache, tokenizer } from "./fixtures.ts";

const { layers } = model.config;
const prompts = [0.2, 0.6].map((depth, seed) =>
  tokenizeNeedle(tokenizer, needle({ seed, sentences: 10, depth, facts: 3 })),
);

/** Opens caches that keep what is recent, and tells what was done with them. */
function recentCaches() {
  const log: CacheLog = { events: [], open: 0 };
  return { events: log.events, open: () => log.open, openCache: () => recentCache(log) };
}

describe("trials on caches that keep what is recent", async () => {
  const caches = recentCaches();
  const progress: TrialProgress[] = [];
  const trials = await runTrials({
    model,
    prompts,
    methods: [
      { name: "full", hasTarget: false },
      { name: "recent", hasTarget: true },
    ],
    keeps: [0.5, 0.2],
    openCache: caches.openCache,
    onProgress: (step) => progress.push(step),
  });
  const rows = summarize(trials);
  const row = (method: string, keep: number | null, protocol: string) => {
    const found = rows.find(
      (each) => each.method === method && each.keep === keep && each.protocol === protocol,
    );
    if (found === undefined) throw new Error(`no row ${method} ${keep} ${protocol}`);
    return found;
  };

  it("run each combination once and dispose every cache", () => {
    expect(trials).toHaveLength(2 * 2 * 3);
    expect(rows).toHaveLength(2 * 3);
    expect(caches.open()).toBe(0);
    expect(progress.at(-1)).toMatchObject({ done: 12, total: 12 });
    expect(progress.map(({ done }) => done)).toEqual(
      [...progress.map(({ done }) => done)].sort((a, b) => a - b),
    );
  });

  it("compress the context alone when the question is hidden, all but its last token when visible", () => {
    const context = prompts[0].context.length;
    const question = prompts[0].question.length;
    expect(caches.events.slice(0, 6)).toEqual([
      `full null of ${context}`,
      `recent 0.5 of ${context}`,
      `recent 0.2 of ${context}`,
      `full null of ${context + question - 1}`,
      `recent 0.5 of ${context + question - 1}`,
      `recent 0.2 of ${context + question - 1}`,
    ]);
  });

  it("recall everything in full and nothing where the fact is gone", () => {
    for (const protocol of ["hidden", "visible"]) {
      expect(row("full", null, protocol).recall.value).toBe(1);
      expect(row("full", null, protocol).logProbability.value).toBeGreaterThan(-0.1);
      expect(row("recent", 0.2, protocol).recall.value).toBe(0);
      expect(row("recent", 0.2, protocol).logProbability.value).toBeLessThan(-1);
    }
    // At keep 0.5 the fact at depth 0.6 is still there, the one at 0.2 is not.
    expect(row("recent", 0.5, "hidden").recall.value).toBe(0.5);
  });

  it("give the full cache one answer in both protocols", () => {
    const full = trials.filter(({ method, prompt }) => method === "full" && prompt === 0);
    expect(full).toHaveLength(2);
    expect(full[0].logProbability).toBeCloseTo(full[1].logProbability, 5);
  });

  it("measure bytes against native f16 and as they are right after compression", () => {
    expect(row("full", null, "hidden").bytes).toEqual({ value: 1, low: 1, high: 1 });
    const { bytes, layerBytes } = row("recent", 0.2, "hidden");
    expect(bytes.value).toBeGreaterThan(0.19);
    expect(bytes.value).toBeLessThanOrEqual(0.2);
    expect(layerBytes).toHaveLength(layers);
    for (const fraction of layerBytes) expect(fraction).toBeCloseTo(bytes.value, 12);
  });

  it("time decoding, and attention as a part of it", () => {
    for (const { decodeMs, attendMs } of trials) {
      expect(attendMs).toBeGreaterThan(0);
      expect(decodeMs).toBeGreaterThan(attendMs);
    }
  });

  it("are compared prompt by prompt", () => {
    expect(compare(trials, "full")).toEqual([]); // no keep value in common with another method
    const doubled = trials.flatMap((trial) =>
      trial.method === "recent"
        ? [trial, { ...trial, method: "better", logProbability: trial.logProbability + 0.25 }]
        : [trial],
    );
    const comparisons = compare(doubled, "better");
    expect(comparisons.map(({ baseline, keep, protocol }) => [baseline, keep, protocol])).toEqual([
      ["recent", 0.5, "hidden"],
      ["recent", 0.2, "hidden"],
      ["recent", 0.5, "visible"],
      ["recent", 0.2, "visible"],
    ]);
    for (const { logProbability, recall } of comparisons) {
      expect(logProbability.value).toBeCloseTo(0.25, 9);
      expect(logProbability.low).toBeCloseTo(0.25, 9);
      expect(recall).toEqual({ value: 0, low: 0, high: 0 });
    }
  });
});

describe("trials that are known from before", () => {
  it("are not run again, and a prompt without any other is not prefilled", async () => {
    const caches = recentCaches();
    const labels: string[] = [];
    const seen: TrialKey[] = [];
    const trials = await runTrials({
      model,
      prompts,
      methods: [{ name: "recent", hasTarget: true }],
      keeps: [0.5, 0.2],
      protocols: ["hidden"],
      openCache: caches.openCache,
      isDone: ({ prompt, keep }) => prompt === 0 || keep === 0.5,
      onTrial: (trial) => void seen.push(trial),
      onProgress: ({ label, total }) => labels.push(`${total} ${label}`),
    });
    expect(trials.map(({ prompt, keep }) => [prompt, keep])).toEqual([[1, 0.2]]);
    expect(seen).toEqual(trials);
    expect(labels).toEqual(["1 prompt 2, prefill", "1 prompt 2, recent keep 0.2", "1 done"]);
    expect(caches.open()).toBe(0);
  });
});

describe("a method that refuses", () => {
  it("is reported with its reason, and the others go on", async () => {
    const caches = recentCaches();
    const refusing = (inner: TrialCache): TrialCache => ({
      ...inner,
      fork: (choice) => {
        if (choice?.method === "fussy") throw argumentError("fork", "more", "target", 0);
        return refusing(inner.fork(choice));
      },
    });
    const reasons: string[] = [];
    const trials = await runTrials({
      model,
      prompts: prompts.slice(0, 1),
      methods: [
        { name: "fussy", hasTarget: true },
        { name: "recent", hasTarget: true },
      ],
      keeps: [0.5],
      openCache: () => refusing(caches.openCache()),
      onRefusal: ({ method, protocol }, error) =>
        void reasons.push(`${method} ${protocol}: ${error.message}`),
    });
    expect(trials.map(({ method }) => method)).toEqual(["recent", "recent"]);
    expect(reasons).toEqual(
      ["hidden", "visible"].map(
        (protocol) => `fussy ${protocol}: fork: expected more for target, got 0`,
      ),
    );
    expect(caches.open()).toBe(0);
  });
});

describe("a trial that fails", () => {
  it("passes the error on and leaves no cache open", async () => {
    const caches = recentCaches();
    const openCache = () => {
      const cache = caches.openCache();
      const failing = (inner: TrialCache): TrialCache => ({
        ...inner,
        fork: (choice) => failing(inner.fork(choice)),
        compress: () => Promise.reject(new Error("no memory")),
      });
      return failing(cache);
    };
    const methods = [{ name: "recent", hasTarget: true }];
    const run = runTrials({
      model,
      prompts: prompts.slice(0, 1),
      methods,
      keeps: [0.5],
      openCache,
    });
    await expect(run).rejects.toThrow("no memory");
    expect(caches.open()).toBe(0);
  });
});
