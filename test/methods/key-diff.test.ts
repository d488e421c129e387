// keyDiff(): the keys least like the mean key; while a prompt comes in pieces the budget holds.
import { expect, it } from "vitest";
import { KVCache, keyDiff } from "../../lib/index.ts";
import { feed, makePrompt } from "../cache/fixtures.ts";
import { describeOp } from "../harness/backends.ts";
import { keyDiffOracle } from "../oracle/scorers.ts";
import { headRows } from "../score/ranked.ts";
import { storedLayer } from "./kept.ts";
import { expectPlanned, rope } from "./planned.ts";

describeOp("keyDiff", (backend, device) => {
  const tokens = backend === "simt" ? 16 : 70;
  const shape = { layers: 2, queryHeads: 2, kvHeads: 2, headDim: 16, dtype: "f32" } as const;
  // A few directions with noise: cosines that differ.
  const prompt = makePrompt(shape, tokens, { seed: 17, clusters: [3, 2], noise: 0.5 });

  it.each([
    { sinks: 0, recent: 0 },
    { sinks: 2, recent: 4 },
  ])("keeps what is least alike: $sinks, $recent", async ({ sinks, recent }) => {
    const each = Math.floor(tokens / 2);
    const scores = prompt.layers.map((_, layer) =>
      [0, 1].map((head) => keyDiffOracle(headRows(prompt, layer, head, rope).keys)),
    );
    const k = each - sinks - recent;
    const plan = [
      [k, k],
      [k, k],
    ];
    const method = keyDiff({ tokens: each, sinks, recent });
    const options = { attended: 1, preRopeKeys: false };
    await expectPlanned(device, method, { prompt, scores, plan, sinks, recent }, options);
  });

  it("in pieces, each piece is ranked with what is left of those before it", async () => {
    const each = 10;
    using cache = new KVCache(device, {
      ...shape,
      method: keyDiff({ tokens: each, schedule: "every-step" }),
    });
    const held = [0, 1].map(() => [0, 1].map((): number[] => []));
    for (let from = 0; from < tokens; from += 7) {
      const to = Math.min(tokens, from + 7);
      await feed(cache, prompt, { from, to });
      await cache.maintain();
      for (let layer = 0; layer < 2; layer++) {
        const heads = await storedLayer(cache, layer);
        for (let head = 0; head < 2; head++) {
          const before = held[layer][head];
          for (let token = from; token < to; token++) before.push(token);
          const { keys } = headRows(prompt, layer, head);
          const scores = keyDiffOracle(before.map((token) => keys[token]));
          const order = before
            .map((token, i) => ({ token, score: scores[i] }))
            .sort((a, b) => b.score - a.score || a.token - b.token);
          held[layer][head] = order
            .slice(0, each)
            .map(({ token }) => token)
            .sort((a, b) => a - b);
          expect(Array.from(heads[head].positions)).toEqual(held[layer][head]);
        }
      }
    }
  });

  it("defaults", () => {
    expect(keyDiff({ keep: 0.5 })).toMatchObject({
      id: "key-diff",
      score: { id: "key-diff" },
      budget: { id: "uniform" },
      select: { sinks: 0, recent: 0 },
      schedule: "after-prefill",
    });
    expect(() => keyDiff({ keep: 0.5, sinks: 0.5 })).toThrowError(
      expect.objectContaining({ code: "ERR_SPINDLEKV_ARGUMENT", param: "sinks" }),
    );
  });
});
