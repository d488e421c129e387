// dynamicKV(): SnapKV's ranking, layers by where the best scores of all layers are.
import { expect, it } from "vitest";
import { dynamicKV } from "../../lib/index.ts";
import { describeOp } from "../harness/backends.ts";
import { globalLayerBudgets } from "../oracle/allocators.ts";
import { expectPlanned, rankedBy, rankedPart, unevenPrompt } from "./planned.ts";

describeOp("dynamicKV", (backend, device) => {
  const isSlow = backend === "simt";
  const layers = isSlow ? 2 : 4;
  const tokens = isSlow ? 18 : 90;
  const window = isSlow ? 3 : 8;
  const shape = { layers, queryHeads: 4, kvHeads: 2, headDim: 16, dtype: "f16" } as const;
  const prompt = unevenPrompt(shape, tokens, 5);
  const context = tokens - window;

  for (const most of [10, 1.25]) {
    it(`keeps the slots and the budgets of the formula, at most ${most} times the mean`, async () => {
      const scores = prompt.layers.map((_, layer) =>
        rankedBy(prompt, layer, { window, pool: { kind: "max", kernel: 7 }, group: "mean" }),
      );
      const ranked = rankedPart({ scores, recent: window });
      for (const each of isSlow ? [5] : [9, 30]) {
        const budgets = globalLayerBudgets(layers * each, ranked, context, most);
        if (!isSlow) expect(new Set(budgets).size).toBeGreaterThan(1);
        expect(Math.max(...budgets)).toBeLessThanOrEqual(Math.ceil(most * each));
        await expectPlanned(
          device,
          dynamicKV({ tokens: each + window, window, most }),
          { prompt, scores, plan: budgets.map((k) => [k, k]), recent: window },
          { attended: window },
        );
      }
    });
  }

  it("defaults are those of the reference code", () => {
    expect(dynamicKV({ keep: 0.5 })).toMatchObject({
      id: "dynamickv",
      score: { window: 8, options: { group: "mean", pool: { kind: "max", kernel: 7 } } },
      budget: { id: "global-layers", options: { most: 10 } },
      schedule: "per-layer",
    });
  });
});
