// l2norm(): the shortest keys, the first layers whole.
import { expect, it } from "vitest";
import { KVCache, l2norm } from "../../lib/index.ts";
import { feed } from "../cache/fixtures.ts";
import { describeOp } from "../harness/backends.ts";
import { uniformBudgets } from "../oracle/budgets.ts";
import { keyNormOracle } from "../oracle/scorers.ts";
import { headRows } from "../score/ranked.ts";
import { expectPlanned, rope, unevenPrompt } from "./planned.ts";

describeOp("l2norm", (backend, device) => {
  const tokens = backend === "simt" ? 16 : 70;
  const shape = { layers: 3, queryHeads: 2, kvHeads: 2, headDim: 16, dtype: "f32" } as const;
  const prompt = unevenPrompt(shape, tokens);
  const scores = prompt.layers.map((_, layer) =>
    [0, 1].map((head) => keyNormOracle(headRows(prompt, layer, head, rope).keys)),
  );

  it.each([
    { skipLayers: [0], sinks: 0, recent: 0 },
    { skipLayers: [], sinks: 2, recent: 3 },
    { skipLayers: [1, 2], sinks: 0, recent: 1 },
  ])("keeps the shortest keys, layers $skipLayers whole", async (options) => {
    const { skipLayers, sinks, recent } = options;
    const each = Math.floor(0.8 * tokens);
    const context = tokens - sinks - recent;
    const others = 3 - skipLayers.length;
    const total = 3 * (each - sinks - recent) - skipLayers.length * context;
    const budgets = uniformBudgets(total, others, context);
    const plan = [0, 1, 2].map((layer) => {
      const k = skipLayers.includes(layer) ? context : (budgets.shift() as number);
      return [k, k];
    });
    const method = l2norm({ tokens: each, ...options });
    await expectPlanned(device, method, { prompt, scores, plan, sinks, recent }, { attended: 1 });
  });

  it("needs no queries, and leaves short caches alone where it is told to", async () => {
    for (const minTokens of [0, tokens + 1]) {
      const method = l2norm({ tokens: 10, minTokens });
      using cache = new KVCache(device, { ...shape, method });
      await feed(cache, prompt);
      const { slots } = await cache.compress();
      expect(slots).toBe(6 * (minTokens === 0 ? 10 : tokens));
    }
  });

  it("a sixteenth of 3 layers is none, of 32 it is two", () => {
    expect(l2norm({ keep: 0.5 })).toMatchObject({
      id: "l2norm",
      score: { id: "key-norm" },
      budget: { options: { skipLayers: "sixteenth" } },
      select: { sinks: 0, recent: 0 },
      minTokens: 0,
      schedule: "after-prefill",
    });
    for (const skipLayers of [[1, 1], [-1], "all"]) {
      expect(() => l2norm({ keep: 0.5, skipLayers: skipLayers as never })).toThrowError(
        expect.objectContaining({ code: "ERR_SPINDLEKV_ARGUMENT", param: "skip" }),
      );
    }
  });
});
