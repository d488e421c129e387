// pyramidInfer(): one set of slots a layer by the recent fifth of the prompt, budgets that fall along a cosine.
import { expect, it } from "vitest";
import { KVCache, pyramidInfer } from "../../lib/index.ts";
import { feed } from "../cache/fixtures.ts";
import { describeOp } from "../harness/backends.ts";
import { cosineBudgets } from "../oracle/allocators.ts";
import { windowScoresOracle } from "../oracle/window-scores.ts";
import { expectPlanned, unevenPrompt, windowValues } from "./planned.ts";

describeOp("pyramidInfer", (backend, device) => {
  const isSlow = backend === "simt";
  const layers = 4;
  const tokens = isSlow ? 60 : 83;
  const shape = { layers, queryHeads: 6, kvHeads: 2, headDim: 16, dtype: "f16" } as const;
  const prompt = unevenPrompt(shape, tokens);

  /** Weighted mean over the recent queries, then over all query heads, for both KV heads alike. */
  const scoresOf = (window: number, last: number) =>
    prompt.layers.map((_, layer) => {
      const queryWeights = Float32Array.from({ length: window }, (_, i) =>
        window === 1 ? last : 1 + ((last - 1) * i) / (window - 1),
      );
      const values = windowValues(prompt, layer, window);
      const { sum } = windowScoresOracle(values, "window", { queryWeights });
      const mean = sum[0].map((_, s) => sum.reduce((all, row) => all + row[s], 0) / sum.length);
      return [mean, mean];
    });

  it.each([
    { options: {}, window: Math.ceil(0.2 * tokens), last: 1.2, sinks: 4, decay: 0.9, interval: 1 },
    {
      options: {
        recentRatio: 0.3,
        window: 5,
        distanceWeight: 3,
        sinks: 1,
        decay: 0.5,
        interval: 2,
      },
      window: 5,
      last: 3,
      sinks: 1,
      decay: 0.5,
      interval: 2,
    },
  ])("keeps the formula's slots: $options", async (values) => {
    const { options, window, last, sinks, decay, interval } = values;
    const each = isSlow ? 36 : 40;
    const context = tokens - window - sinks;
    const total = layers * (each - window - sinks);
    const budgets = cosineBudgets(total, layers, context, decay, interval);
    const plan = budgets.map((k) => [k, k]);
    const kept = await expectPlanned(
      device,
      pyramidInfer({ tokens: each, ...options }),
      { prompt, scores: scoresOf(window, last), plan, sinks, recent: window },
      { attended: tokens },
    );
    const slots = kept.flat().reduce((sum, { indices }) => sum + indices.length, 0);
    expect(slots).toBe(layers * 2 * each);
    for (const [first, second] of kept) expect(second.indices).toEqual(first.indices);
    expect(budgets.at(-1)).toBeLessThan(budgets[0]);
  });

  it("needs the queries of the recent part", async () => {
    using cache = new KVCache(device, { ...shape, method: pyramidInfer({ tokens: 12 }) });
    await feed(cache, prompt, { attended: Math.ceil(0.2 * tokens) - 1 });
    await expect(cache.compress()).rejects.toMatchObject({ code: "ERR_SPINDLEKV_MISSING_INPUT" });
  });

  it("names options that are out of range", () => {
    for (const [options, param] of [
      [{ tokens: 8, recentRatio: 0 }, "windowFraction"],
      [{ tokens: 8, window: 1025 }, "window"],
      [{ tokens: 8, distanceWeight: 0 }, "distanceWeight"],
      [{ tokens: 8, decay: 0 }, "decay"],
      [{ tokens: 8, interval: 0 }, "interval"],
      [{ tokens: 8, sinks: -1 }, "sinks"],
    ] as const) {
      expect(() => pyramidInfer(options as never)).toThrowError(
        expect.objectContaining({ code: "ERR_SPINDLEKV_ARGUMENT", param }),
      );
    }
  });
});
