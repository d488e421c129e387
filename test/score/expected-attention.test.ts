// expectedAttention(): mean and covariance of the queries, turned to positions to come.
import { expect, it } from "vitest";
import { expectedAttentionScore, KVCache } from "../../lib/index.ts";
import { compose, topK, uniform } from "../../lib/index.ts";
import { feed, makePrompt, sliceTokens } from "../cache/fixtures.ts";
import { ropeValues } from "../cache/reference.ts";
import { describeOp } from "../harness/backends.ts";
import { compareWithin } from "../harness/compare.ts";
import { roundingBound } from "../harness/tolerance.ts";
import { expectationOracle, rowsOf } from "../oracle/scorers.ts";
import { selectTopkOracle } from "../oracle/select-topk.ts";
import { headRows, rankPrompt } from "./ranked.ts";

const shape = { layers: 2, queryHeads: 6, kvHeads: 2, headDim: 16, dtype: "f32" } as const;
const tokens = 40;
const prompt = makePrompt(shape, tokens, { seed: 14 });
// Queries with a mean of their own, as a model's have.
for (const { q } of prompt.layers) {
  q.forEach((x, i) => {
    q[i] = Math.fround(0.5 * x + 0.7 * Math.cos(i % 16));
  });
}

describeOp("expectedAttention", (_backend, device) => {
  it.each([
    { window: 1024, future: 12, covariance: true, valueNorm: "l2", epsilon: 0, style: "norm" },
    { window: 9, future: 1, covariance: true, valueNorm: "l2", epsilon: 0.01, style: "neox" },
    { window: 20, future: 30, covariance: false, valueNorm: "none", epsilon: 0, style: "neox" },
  ] as const)("gives the formula's scores: $window, $future", async (values) => {
    const { window, future, covariance, valueNorm, epsilon, style } = values;
    const rope = { theta: 100, style, nRot: 12 };
    const score = expectedAttentionScore({
      window,
      futurePositions: future,
      covariance,
      valueNorm,
      epsilon,
    });
    const sinks = 3;
    for (const preRopeKeys of [false, true]) {
      const { scores, kept } = await rankPrompt(device, prompt, score, {
        rope,
        sinks,
        preRopeKeys,
      });
      for (let layer = 0; layer < shape.layers; layer++) {
        for (let head = 0; head < shape.kvHeads; head++) {
          const count = Math.min(window, tokens - sinks);
          const queries = sliceTokens(prompt.layers[layer].q, 6, 16, tokens - count, tokens);
          const expected = expectationOracle({
            ...headRows(prompt, layer, head, rope),
            queries: [0, 1, 2].map((g) => {
              const first = (head * 3 + g) * count * 16;
              return rowsOf(queries.subarray(first, first + count * 16), 16);
            }),
            rope: ropeValues(16, tokens + future, rope),
            next: tokens,
            future,
            sinks,
            covariance,
            valueNorm: valueNorm === "l2",
            epsilon,
          });
          const own = scores[layer][head];
          // Float64 throughout, rounded once; keys that are turned on the host were never rounded to f32 twice.
          const bound = (i: number) => 16 * roundingBound(expected[i], "f32");
          const name = `layer ${layer}, head ${head}, pre-RoPE ${preRopeKeys}`;
          compareWithin(name, own.slice(sinks), expected.slice(sinks), {
            element: (i) => bound(sinks + i),
          });
          const k = [tokens / 2 - sinks];
          const [{ indices }] = selectTopkOracle({ rows: [expected as never], k, sinks });
          expect(kept[layer][head]).toEqual(indices);
        }
      }
    }
  });

  it("needs queries before RoPE, and those of its window", async () => {
    const method = compose({
      id: "expecting",
      target: { tokens: 10 },
      score: expectedAttentionScore({ window: 8 }),
      budget: uniform(),
      select: topK({ recent: 0 }),
    });
    expect(() => new KVCache(device, { ...shape, method })).toThrowError(
      expect.objectContaining({
        code: "ERR_SPINDLEKV_MISSING_INPUT",
        message: expect.stringContaining("score expected-attention"),
      }),
    );
    using cache = new KVCache(device, { ...shape, method, rope: { theta: 100, style: "norm" } });
    await feed(cache, prompt, { attended: 7 });
    await expect(cache.compress()).rejects.toMatchObject({
      code: "ERR_SPINDLEKV_MISSING_INPUT",
      message: expect.stringContaining("the queries of the last 8 tokens"),
    });
  });

  it("names options that are out of range", () => {
    for (const [options, param] of [
      [{ window: 0 }, "window"],
      [{ window: 65537 }, "window"],
      [{ futurePositions: 0 }, "futurePositions"],
      [{ covariance: "yes" }, "covariance"],
      [{ valueNorm: "l1" }, "valueNorm"],
      [{ epsilon: -1 }, "epsilon"],
    ] as const) {
      expect(() => expectedAttentionScore(options as never)).toThrowError(
        expect.objectContaining({ code: "ERR_SPINDLEKV_ARGUMENT", param }),
      );
    }
  });
});
