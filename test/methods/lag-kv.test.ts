// lagKV(): of every block what strays most from the next one; sinks and the last blocks stay.
import { expect, it } from "vitest";
import { lagKV } from "../../lib/index.ts";
import { makePrompt } from "../cache/fixtures.ts";
import { describeOp } from "../harness/backends.ts";
import { lagOracle } from "../oracle/scorers.ts";
import { headRows } from "../score/ranked.ts";
import { expectPlanned, rope } from "./planned.ts";

describeOp("lagKV", (backend, device) => {
  const tokens = backend === "simt" ? 30 : 118;
  const shape = { layers: 2, queryHeads: 2, kvHeads: 2, headDim: 16, dtype: "f32" } as const;
  const prompt = makePrompt(shape, tokens, { seed: 19 });

  it.each([
    { lag: 8, sinks: 4, crossScoring: false },
    { lag: 5, sinks: 0, crossScoring: true },
  ])("keeps the formula's slots: $lag, $sinks, $crossScoring", async (options) => {
    const each = Math.floor(0.6 * tokens);
    const scores = prompt.layers.map((_, layer) =>
      [0, 1].map((head) => {
        const rows = headRows(prompt, layer, head, rope);
        // What has no next block ranks above all others, the newest first.
        return lagOracle({ ...rows, ...options }).map((score, slot) => score ?? 2 + slot);
      }),
    );
    const k = each - options.sinks;
    const plan = [
      [k, k],
      [k, k],
    ];
    const { sinks } = options;
    const method = lagKV({ tokens: each, ...options });
    const cacheOptions = { attended: 1, preRopeKeys: false };
    await expectPlanned(device, method, { prompt, scores, plan, sinks, recent: 0 }, cacheOptions);
  });

  it("defaults are blocks of 128 behind 4 sinks", () => {
    expect(lagKV({ keep: 0.5 })).toMatchObject({
      id: "lagkv",
      score: { id: "lag-relative", options: { lag: 128, crossScoring: false } },
      select: { sinks: 4, recent: 0 },
      schedule: "after-prefill",
    });
    expect(() => lagKV({ keep: 0.5, lag: 0 })).toThrowError(
      expect.objectContaining({ code: "ERR_SPINDLEKV_ARGUMENT", param: "lag" }),
    );
  });
});
