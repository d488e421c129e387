// squeezeAttention(): layers by how much their attention changes the residual stream, over three policies of slots.
import { expect, it } from "vitest";
import { type KVCache, squeezeAttention } from "../../lib/index.ts";
import { describeOp } from "../harness/backends.ts";
import { squeezeBudgets } from "../oracle/allocators.ts";
import { sinksAndRecentKept } from "../oracle/methods.ts";
import { type Selection, selectTopkOracle } from "../oracle/select-topk.ts";
import { expectKept } from "./kept.ts";
import { attentionTo, decode, fillByLayer, unevenPrompt } from "./planned.ts";

type Policy = "sliding-window" | "streaming-llm" | "h2o";

/** Shows a stream of [tokens, 2] whose rows have a given cosine before and after the layer's attention. */
function show(cache: KVCache, layer: number, cosine: number, tokens: number): void {
  const before = new Float32Array(2 * tokens);
  const after = new Float32Array(2 * tokens);
  for (let token = 0; token < tokens; token++) {
    before[2 * token] = 3;
    after[2 * token] = 2 * cosine;
    after[2 * token + 1] = 2 * Math.sqrt(1 - cosine * cosine);
  }
  cache.layers[layer].observe(before, after, tokens);
}

describeOp("squeezeAttention", (backend, device) => {
  const isSlow = backend === "simt";
  const tokens = isSlow ? 16 : 80;
  const cosines = isSlow ? [0.3, 0.9, 0.6] : [0.3, 0.93, 0.62, 0.95, 0.35];
  const layers = cosines.length;
  const shape = { layers, queryHeads: 4, kvHeads: 2, headDim: 16, dtype: "f16" } as const;
  const prompt = unevenPrompt(shape, tokens, 4);
  const each = isSlow ? 8 : 24;
  const sinksOf = { "sliding-window": 0, "streaming-llm": 4, h2o: 0 };

  const filled = (policy: Policy) =>
    fillByLayer(
      device,
      prompt,
      { attended: tokens, pageSlots: 4, method: squeezeAttention({ tokens: each, policy }) },
      async (cache, layer) => {
        // In two parts, as a chunked prompt shows it: the mean over tokens is what counts.
        const first = tokens / 4;
        show(cache, layer, cosines[layer] - 0.03, first);
        show(cache, layer, cosines[layer] + 0.01, tokens - first);
      },
    );

  const budgetsOf = (policy: Policy) => {
    const sinks = sinksOf[policy];
    return squeezeBudgets(layers * (each - sinks), cosines, tokens - sinks, 0.35);
  };

  const expectedKept = (policy: Policy): Selection[][] =>
    budgetsOf(policy).map((k, layer) => {
      if (policy !== "h2o") {
        const indices = sinksAndRecentKept(tokens, sinksOf[policy], k);
        return [0, 1].map(() => ({ indices, masks: [] }));
      }
      const rows = attentionTo(prompt, layer, tokens, "kv-head");
      const recent = Math.floor(k / 2);
      return selectTopkOracle({ rows: rows as never[], k: [k - recent, k - recent], recent });
    });

  for (const policy of ["sliding-window", "streaming-llm", "h2o"] as const) {
    it(`keeps each layer's budget by ${policy}, p of the mean where attention changes least`, async () => {
      using cache = await filled(policy);
      const budgets = budgetsOf(policy);
      const report = await cache.maintain();
      expect(report?.plan).toEqual(budgets);
      expect(report?.slots).toBe(layers * 2 * each);
      const highest = cosines.indexOf(Math.max(...cosines));
      const mean = each - sinksOf[policy];
      expect(Math.abs(budgets[highest] - 0.35 * mean)).toBeLessThan(1);
      expect(Math.max(...budgets)).toBeGreaterThan(mean);
      for (const [layer, heads] of expectedKept(policy).entries()) {
        await expectKept(cache, layer, heads);
      }
    });

    it(`holds every layer's size while decoding by ${policy}`, async () => {
      const steps = isSlow ? 4 : 50;
      const longer = unevenPrompt(shape, tokens + steps, 14);
      using cache = await filled(policy);
      await cache.maintain();
      const before = cache.stats();
      const slots = cache.layers.map((layer) => layer.slots);
      for (let token = tokens; token < tokens + steps; token++) {
        await decode(cache, longer, token, token + 1);
        expect(cache.layers.map((layer) => layer.slots)).toEqual(slots);
      }
      const after = cache.stats();
      expect(after.tokens).toBe(tokens + steps);
      // The page that takes appends may be half full.
      const pages = 2 * 2 * layers;
      expect(after.pool.pagesUsed).toBeLessThanOrEqual(before.pool.pagesUsed + pages);
    });
  }

  it("asks for the hidden states that it reads, and leaves the cache as it is", async () => {
    const method = squeezeAttention({ tokens: each });
    using cache = await fillByLayer(device, prompt, { attended: 1, method }, async (own, layer) => {
      if (layer > 0) show(own, layer, 0.5, tokens);
    });
    await expect(cache.compress()).rejects.toMatchObject({
      code: "ERR_SPINDLEKV_MISSING_INPUT",
      message: expect.stringContaining("layer 0"),
    });
    expect(cache.layers[0].slots).toEqual([tokens, tokens]);
  });

  it("layers that are alike keep the same", async () => {
    const method = squeezeAttention({ tokens: each });
    using cache = await fillByLayer(device, prompt, { attended: 1, method }, async (own, layer) =>
      show(own, layer, 0.8, tokens),
    );
    expect((await cache.compress()).plan).toEqual(new Array(layers).fill(each - 4));
  });

  it("refuses a policy that is none and streams of unequal shape", async () => {
    expect(() => squeezeAttention({ keep: 0.2, policy: "tova" as never })).toThrowError(
      expect.objectContaining({ code: "ERR_SPINDLEKV_ARGUMENT", param: "policy" }),
    );
    using cache = await fillByLayer(device, prompt, { attended: 1 });
    const layer = cache.layers[0];
    const four = new Float32Array(4);
    for (const [before, after, count] of [
      [four, new Float32Array(6), 2],
      [four, four, 3],
      [four, four, 0],
      [new Float32Array(0), new Float32Array(0), 1],
    ] as const) {
      expect(() => layer.observe(before, after, count)).toThrowError(
        expect.objectContaining({ code: "ERR_SPINDLEKV_ARGUMENT", op: "observe" }),
      );
    }
  });
});
