// dBudgetKV(): sinks and as many newest slots as hold the last query's attention; no target.
import { expect, it } from "vitest";
import { dBudgetKV } from "../../lib/index.ts";
import { describeOp } from "../harness/backends.ts";
import { coverageSuffix } from "../oracle/allocators.ts";
import { storedLayer } from "./kept.ts";
import { attentionTo, fillByLayer, unevenPrompt } from "./planned.ts";

describeOp("dBudgetKV", (backend, device) => {
  const isSlow = backend === "simt";
  const layers = isSlow ? 3 : 4;
  const tokens = isSlow ? 20 : 120;
  const shape = { layers, queryHeads: 6, kvHeads: 2, headDim: 16, dtype: "f16" } as const;
  const prompt = unevenPrompt(shape, tokens, 12);

  for (const [loss, least, sinks] of [
    [0.01, 5, 4],
    [0.3, 2, 0],
    [0.6, 0, 1],
  ]) {
    it(`keeps the longest suffix that a head of the group needs, loss ${loss}`, async () => {
      const method = dBudgetKV({ loss, least, sinks, skipLayers: [1] });
      using cache = await fillByLayer(device, prompt, { attended: 2, method });
      const report = await cache.compress();
      expect(report).toMatchObject({ targetBytes: null, method: "dbudgetkv" });
      for (let layer = 0; layer < layers; layer++) {
        const whole = attentionTo(prompt, layer, 1, "query-head").map((row) =>
          Float32Array.from(row),
        );
        const heads = await storedLayer(cache, layer);
        heads.forEach((head, h) => {
          const suffix = Math.max(
            least,
            ...whole.slice(3 * h, 3 * h + 3).map((row) => coverageSuffix(row, sinks, loss)),
          );
          const kept = layer === 1 ? tokens : Math.min(tokens, sinks + suffix);
          const expected = Array.from({ length: tokens }, (_, i) => i).filter(
            (i) => layer === 1 || i < sinks || i >= tokens - suffix,
          );
          expect(Array.from(head.positions), `layer ${layer}, head ${h}`).toEqual(expected);
          expect(head.slots).toBe(kept);
        });
      }
    });
  }

  it("keeps a short prompt whole, least and all", async () => {
    const short = unevenPrompt(shape, 9, 2);
    using cache = await fillByLayer(device, short, { attended: 1, method: dBudgetKV() });
    const report = await cache.compress();
    expect(report.hasEvicted).toBe(false);
    expect(cache.layers.map(({ slots }) => slots)).toEqual(new Array(layers).fill([9, 9]));
  });

  it("defaults are the paper's, and 32 slots at least", () => {
    expect(dBudgetKV()).toMatchObject({
      id: "dbudgetkv",
      target: null,
      score: { window: 1, options: { group: "unfold", scope: "kv-head" } },
      budget: { id: "skip-layers", options: { loss: 0.01, least: 32, skipLayers: [0, 1] } },
      select: { sinks: 4, recent: "budget" },
    });
  });
});
