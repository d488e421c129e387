// cake(): layers by the dispersion and the shift of their attention, slots by its mean and variance; layer by layer.
import { expect, it } from "vitest";
import { cake, readStoredSlots } from "../../lib/index.ts";
import { describeOp } from "../harness/backends.ts";
import { cascadeBudgets } from "../oracle/allocators.ts";
import {
  columnsOf,
  contextEntropy,
  decode,
  expectPlanned,
  fillByLayer,
  rankedBy,
  unevenPrompt,
  windowValues,
} from "./planned.ts";

describeOp("cake", (backend, device) => {
  const isSlow = backend === "simt";
  const layers = isSlow ? 2 : 4;
  const tokens = isSlow ? 18 : 80;
  const window = isSlow ? 3 : 8;
  const shape = { layers, queryHeads: 4, kvHeads: 2, headDim: 16, dtype: "f16" } as const;
  const prompt = unevenPrompt(shape, tokens, 9);
  const context = tokens - window;

  const entropies = prompt.layers.map((_, layer) => contextEntropy(prompt, layer, window));
  const variances = prompt.layers.map((_, layer) =>
    columnsOf(windowValues(prompt, layer, window))
      .map(({ variance }) => variance.slice(0, context).reduce((a, b) => a + b, 0))
      .reduce((a, b) => a + b, 0),
  );

  for (const [tau1, tau2, gamma] of [
    [1, 1, 200],
    [1.6, 0.4, 5],
  ]) {
    it(`keeps the slots and the budgets of the formula, tau ${tau1} and ${tau2}`, async () => {
      const scores = prompt.layers.map((_, layer) =>
        rankedBy(prompt, layer, {
          window,
          pool: { kind: "mean", kernel: 5 },
          group: "mean",
          of: ({ mean, variance }) => mean.map((m, slot) => m + gamma * variance[slot]),
        }),
      );
      for (const each of isSlow ? [5] : [12, 40]) {
        const total = layers * each;
        const budgets = cascadeBudgets(total, entropies, variances, context, tau1, tau2);
        expect(Math.max(...budgets) - Math.min(...budgets)).toBeGreaterThan(2);
        await expectPlanned(
          device,
          cake({ tokens: each + window, window, tau1, tau2, gamma }),
          { prompt, scores, plan: budgets.map((k) => [k, k]), recent: window },
          { attended: window },
        );
      }
    });
  }

  it("holds every layer's size while decoding, its window among what stays", async () => {
    const steps = isSlow ? 3 : 50;
    const longer = unevenPrompt(shape, tokens + steps, 19);
    const method = cake({ tokens: 12 + window, window });
    using cache = await fillByLayer(device, prompt, { attended: window, pageSlots: 8, method });
    await cache.compress();
    const slots = cache.layers.map((layer) => layer.slots);
    const pages = cache.stats().pool.pagesUsed;
    for (let token = tokens; token < tokens + steps; token++) {
      await decode(cache, longer, token, token + 1);
      expect(cache.layers.map((layer) => layer.slots)).toEqual(slots);
    }
    expect(cache.stats().pool.pagesUsed).toBeLessThanOrEqual(pages + 4 * layers);
    for (let layer = 0; layer < layers; layer++) {
      const { positions } = await readStoredSlots(cache, layer, 1);
      const last = Array.from({ length: window }, (_, i) => tokens + steps - window + i);
      expect(Array.from(positions).slice(-window)).toEqual(last);
    }
  });

  it("without decode nothing goes after the prompt", async () => {
    const longer = unevenPrompt(shape, tokens + 3, 19);
    const method = cake({ tokens: 2 + window, window, decode: false });
    using cache = await fillByLayer(device, prompt, { attended: window, method });
    await cache.compress();
    const slots = cache.layers.map((layer) => layer.slots.map((count) => count + 3));
    await decode(cache, longer, tokens, tokens + 3);
    expect(cache.layers.map((layer) => layer.slots)).toEqual(slots);
  });

  it("defaults are those of the reference code", () => {
    expect(cake({ keep: 0.5 })).toMatchObject({
      id: "cake",
      score: {
        window: 32,
        options: { gamma: 200, group: "mean", pool: { kind: "mean", kernel: 5 } },
      },
      stepScore: { id: "last-query" },
      budget: { id: "cascade", options: { tau1: 1, tau2: 1 } },
      select: { recent: 32 },
      schedule: "per-layer",
    });
  });
});
