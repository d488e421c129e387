// tova(): what the newest token attends to least goes, after every token.
import { expect, it } from "vitest";
import { KVCache, tova } from "../../lib/index.ts";
import { ask, feed, makePrompt } from "../cache/fixtures.ts";
import { describeOp } from "../harness/backends.ts";
import { storedLayer } from "./kept.ts";
import { expectStepwise, keepBest, type Rule } from "./stepwise.ts";

const rope = { theta: 10_000, style: "norm" } as const;

const meanOf = (rows: readonly number[][]) =>
  rows[0].map((_, slot) => rows.reduce((sum, row) => sum + row[slot], 0) / rows.length);

/** One ranking a layer, or one for each KV head. */
function leastAttended(
  options: { tokens: number; sinks: number; recent: number },
  scope: "layer" | "kv-head",
): Rule {
  return keepBest(options, ({ last, kept }, head) => {
    const group = last.length / kept.length;
    return meanOf(scope === "layer" ? last : last.slice(head * group, (head + 1) * group));
  });
}

describeOp("tova", (backend, device) => {
  const isSlow = backend === "simt";
  const kvHeads = isSlow ? 1 : 2;
  const shape = { layers: 2, queryHeads: 2 * kvHeads, kvHeads, headDim: 16, dtype: "f32" } as const;
  const first = isSlow ? 14 : 40;
  const steps = isSlow ? 4 : 50;
  const prompt = makePrompt(shape, first + steps, { seed: 43 });
  const tokens = isSlow ? 8 : 20;

  it.each([
    { scope: "layer", sinks: 0, recent: 0 },
    { scope: "kv-head", sinks: 0, recent: 0 },
    { scope: "layer", sinks: 1, recent: 3 },
  ] as const)("evicts step by step as the formula does: $scope", async (options) => {
    const rule = leastAttended({ tokens, ...options }, options.scope);
    await expectStepwise(device, tova({ tokens, ...options }), {
      prompt,
      first,
      tokens,
      rope,
      rule,
    });
  });

  it("leaves the slots of many small pages where they are, and the newest page open", async () => {
    const pageSlots = isSlow ? 1 : 2;
    const options = { tokens: 16 * pageSlots, scope: "kv-head" } as const;
    const longer = options.tokens + 4;
    await expectStepwise(device, tova(options), {
      prompt: makePrompt(shape, longer + steps, { seed: 44 }),
      first: longer,
      tokens: options.tokens,
      pageSlots,
      rope,
      rule: leastAttended({ ...options, sinks: 0, recent: 0 }, options.scope),
    });
  });

  it("a prompt in chunks is the same prompt", async () => {
    const kept: number[][][] = [];
    for (const chunk of [first, 6]) {
      using cache = new KVCache(device, { ...shape, rope, method: tova({ tokens }) });
      for (let from = 0; from < first; from += chunk) {
        const to = Math.min(first, from + chunk);
        await feed(cache, prompt, { from, to });
        await ask(cache, prompt, from, to);
      }
      await cache.maintain();
      const heads = await storedLayer(cache, 1);
      kept.push(heads.map(({ positions }) => Array.from(positions)));
    }
    expect(kept[1]).toEqual(kept[0]);
  });

  it("names options that are out of range", () => {
    for (const [options, param] of [
      [{ tokens: 8, scope: "head" }, "scope"],
      [{ tokens: 8, recent: -1 }, "recent"],
      [{ tokens: 8, schedule: "never" }, "schedule"],
    ] as const) {
      expect(() => tova(options as never)).toThrowError(
        expect.objectContaining({ code: "ERR_SPINDLEKV_ARGUMENT", param }),
      );
    }
  });
});
