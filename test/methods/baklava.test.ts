// baklava(): SnapKV's ranking, heads by an offline table.
import { expect, it } from "vitest";
import { baklava } from "../../lib/index.ts";
import { describeOp } from "../harness/backends.ts";
import { profiledBudgets } from "../oracle/allocators.ts";
import { expectPlanned, fillByLayer, rankedBy, unevenPrompt } from "./planned.ts";

describeOp("baklava", (backend, device) => {
  const isSlow = backend === "simt";
  const layers = isSlow ? 2 : 3;
  const tokens = isSlow ? 18 : 80;
  const window = isSlow ? 3 : 8;
  const shape = { layers, queryHeads: 4, kvHeads: 2, headDim: 16, dtype: "f16" } as const;
  const prompt = unevenPrompt(shape, tokens, 6);
  const importance = [
    [0.9, 0.1],
    [0.4, 0.5],
    [0.05, 0.2],
  ].slice(0, layers);

  it("keeps the best slots of each head in the budgets of its table", async () => {
    const scores = prompt.layers.map((_, layer) =>
      rankedBy(prompt, layer, { window, pool: { kind: "max", kernel: 7 }, group: "mean" }),
    );
    const each = isSlow ? 6 : 20;
    for (const [tau, least] of [
      [1, 0.2],
      [2, 0],
    ]) {
      const plan = profiledBudgets(layers * each, importance, tokens - window, tau, least);
      expect(plan[0][0]).toBeGreaterThan(plan[0][1]);
      const profile = { model: "made up", importance, tau, least };
      await expectPlanned(
        device,
        baklava({ tokens: each + window, window, profile }),
        { prompt, scores, plan, recent: window },
        { attended: window },
      );
    }
  });

  it("refuses a cache that the table does not fit, and leaves it as it is", async () => {
    const profile = { model: "made up", importance: [[1, 1, 1]], tau: 1, least: 0 };
    const method = baklava({ tokens: window + 2, window, profile });
    using cache = await fillByLayer(device, prompt, { attended: window, method });
    await expect(cache.compress()).rejects.toMatchObject({
      code: "ERR_SPINDLEKV_ARGUMENT",
      message: expect.stringContaining("importance"),
    });
    expect(cache.layers[0].slots).toEqual([tokens, tokens]);
  });
});
