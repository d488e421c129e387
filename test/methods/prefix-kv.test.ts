// prefixKV(): the same part of every layer's attention is kept; by default one set of slots a layer.
import { expect, it } from "vitest";
import { prefixKV } from "../../lib/index.ts";
import { describeOp } from "../harness/backends.ts";
import { prefixBudgets } from "../oracle/allocators.ts";
import { attentionTo, expectPlanned, rankedPart, unevenPrompt } from "./planned.ts";

describeOp("prefixKV", (backend, device) => {
  const isSlow = backend === "simt";
  const layers = isSlow ? 2 : 4;
  const tokens = isSlow ? 16 : 80;
  const shape = { layers, queryHeads: 4, kvHeads: 2, headDim: 16, dtype: "f16" } as const;
  const prompt = unevenPrompt(shape, tokens, 7);

  for (const scope of ["layer", "kv-head"] as const) {
    it(`keeps the slots and the budgets of the formula, scope ${scope}`, async () => {
      const scores = prompt.layers.map((_, layer) => {
        const rows = attentionTo(prompt, layer, tokens, "kv-head");
        if (scope === "kv-head") return rows;
        const mean = rows[0].map((value, slot) => (value + rows[1][slot]) / 2);
        return [mean, mean];
      });
      const protect = { sinks: 1, recent: 1 };
      const ranked = rankedPart({ scores, ...protect });
      for (const each of isSlow ? [6] : [10, 40]) {
        const budgets = prefixBudgets(layers * (each - 2), ranked, tokens - 2);
        if (!isSlow) expect(new Set(budgets).size).toBeGreaterThan(1);
        const kept = await expectPlanned(
          device,
          prefixKV({ tokens: each, scope }),
          { prompt, scores, plan: budgets.map((k) => [k, k]), ...protect },
          { attended: tokens },
        );
        if (scope === "layer") {
          for (const [first, second] of kept) expect(first.indices).toEqual(second.indices);
        }
      }
    });
  }

  it("defaults are those of the reference code", () => {
    expect(prefixKV({ keep: 0.5 })).toMatchObject({
      id: "prefixkv",
      score: { source: "sums", options: { scope: "layer" } },
      budget: { id: "global-prefix" },
      select: { sinks: 1, recent: 1 },
      schedule: "after-prefill",
    });
  });
});
