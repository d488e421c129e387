// lava(): attention times the size of a head's values; layers by the entropy of it, heads by where it is largest.
import { expect, it } from "vitest";
import { lava } from "../../lib/index.ts";
import { describeOp } from "../harness/backends.ts";
import { adaptiveHeadBudgets, entropyBudgets } from "../oracle/allocators.ts";
import { expectPlanned, rankedBy, rankedPart, unevenPrompt, valueL1 } from "./planned.ts";

describeOp("lava", (backend, device) => {
  const isSlow = backend === "simt";
  const layers = isSlow ? 2 : 4;
  const tokens = isSlow ? 18 : 80;
  const window = isSlow ? 3 : 8;
  const shape = { layers, queryHeads: 6, kvHeads: 3, headDim: 16, dtype: "f16" } as const;
  const even = unevenPrompt(shape, tokens, 10);
  // Values of one head are larger than those of the others: it is worth more slots.
  const prompt = {
    ...even,
    layers: even.layers.map((rows) => ({
      ...rows,
      v: rows.v.map((x, i) => (i < tokens * 16 ? 4 * x : x)),
    })),
  };
  const context = tokens - window;

  for (const floor of [0, 0.3]) {
    it(`keeps the slots and the budgets of the formula, floor ${floor}`, async () => {
      const scores = prompt.layers.map((_, layer) => {
        const largest = [0, 1, 2].map((head) => Math.max(...valueL1(prompt, layer, head)));
        return rankedBy(prompt, layer, {
          window,
          pool: { kind: "max", kernel: 7 },
          group: "max",
          of: ({ mean }, head) => mean.map((m) => m * largest[head]),
        });
      });
      const ranked = rankedPart({ scores, recent: window });
      for (const each of isSlow ? [5] : [12, 40]) {
        const perLayer = entropyBudgets(layers * each, ranked, context);
        const plan = perLayer.map((k, layer) => adaptiveHeadBudgets(k, ranked[layer], floor));
        expect(plan[0][0]).toBeGreaterThan(plan[0][1]);
        await expectPlanned(
          device,
          lava({ tokens: each + window, window, floor }),
          { prompt, scores, plan, recent: window },
          { attended: window },
        );
      }
    });
  }

  it("defaults are those of the reference code", () => {
    expect(lava({ keep: 0.5 })).toMatchObject({
      id: "lava",
      score: {
        window: 32,
        options: {
          norm: "window",
          group: "max",
          valueNorm: "l1-max",
          pool: { kind: "max", kernel: 7 },
        },
      },
      budget: { id: "adaptive-heads", options: { floor: 0 } },
      schedule: "per-layer",
    });
  });
});
