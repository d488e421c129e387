// zigzagKV(): SnapKV's slots, layers by how many slots hold nine tenths of their attention.
import { expect, it } from "vitest";
import { zigzagKV } from "../../lib/index.ts";
import { describeOp } from "../harness/backends.ts";
import { uncertaintyBudgets } from "../oracle/allocators.ts";
import { expectPlanned, rankedBy, rankedPart, unevenPrompt } from "./planned.ts";

describeOp("zigzagKV", (backend, device) => {
  const isSlow = backend === "simt";
  const layers = isSlow ? 2 : 4;
  const tokens = isSlow ? 18 : 90;
  const window = isSlow ? 3 : 8;
  const shape = { layers, queryHeads: 6, kvHeads: 2, headDim: 16, dtype: "f16" } as const;
  const prompt = unevenPrompt(shape, tokens);

  for (const sinks of [0, 2]) {
    it(`keeps the slots of the formula in the budgets of the formula, ${sinks} sinks`, async () => {
      const scores = prompt.layers.map((_, layer) =>
        rankedBy(prompt, layer, { window, pool: { kind: "max", kernel: 7 }, group: "mean" }),
      );
      const context = tokens - window - sinks;
      const ranked = rankedPart({ scores, sinks, recent: window });
      for (const share of [0.2, 0.5]) {
        const each = Math.round(share * context);
        const budgets = uncertaintyBudgets(layers * each, ranked, context, 0.9, 0.2);
        if (!isSlow) expect(new Set(budgets).size).toBeGreaterThan(1);
        const plan = budgets.map((k) => [k, k]);
        const method = zigzagKV({ tokens: each + window + sinks, window, sinks });
        await expectPlanned(
          device,
          method,
          { prompt, scores, plan, sinks, recent: window },
          { attended: window },
        );
      }
    });
  }

  it("defaults are SnapKV's, nine tenths of the attention and a fifth of the mean at least", () => {
    expect(zigzagKV({ keep: 0.5 })).toMatchObject({
      id: "zigzagkv",
      score: { window: 32, options: { group: "mean", pool: { kind: "max", kernel: 7 } } },
      budget: { id: "uncertainty", options: { mass: 0.9, bound: 0.2 } },
      schedule: "after-prefill",
    });
  });
});
