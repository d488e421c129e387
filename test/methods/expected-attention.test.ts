// expectedAttention(): what queries to come are expected to attend to, heads alike or by where the best scores are.
import { expect, it } from "vitest";
import { expectedAttention } from "../../lib/index.ts";
import { makePrompt, sliceTokens } from "../cache/fixtures.ts";
import { ropeValues } from "../cache/reference.ts";
import { describeOp } from "../harness/backends.ts";
import { adaptiveHeadBudgets } from "../oracle/allocators.ts";
import { expectationOracle, rowsOf } from "../oracle/scorers.ts";
import { headRows } from "../score/ranked.ts";
import { expectPlanned, rankedPart, rope } from "./planned.ts";

describeOp("expectedAttention", (backend, device) => {
  const tokens = backend === "simt" ? 20 : 60;
  const shape = { layers: 2, queryHeads: 4, kvHeads: 2, headDim: 16, dtype: "f32" } as const;
  const prompt = makePrompt(shape, tokens, { seed: 23 });
  for (const { q, k } of prompt.layers) {
    // Queries with a mean of their own, and heads that differ in how widely they are attended to.
    q.forEach((x, i) => {
      q[i] = Math.fround(0.3 * x + Math.sin(i % 16));
    });
    k.forEach((x, i) => {
      k[i] = i < k.length / 2 ? x : Math.fround(0.25 * x);
    });
  }
  const sinks = 4;
  const scoresOf = (future: number, epsilon: number) =>
    prompt.layers.map(({ q }, layer) =>
      [0, 1].map((head) => {
        const count = tokens - sinks;
        const queries = rowsOf(sliceTokens(q, 4, 16, sinks, tokens), 16);
        return expectationOracle({
          ...headRows(prompt, layer, head, rope),
          queries: [0, 1].map((g) =>
            queries.slice((2 * head + g) * count, (2 * head + g + 1) * count),
          ),
          rope: ropeValues(16, tokens + future, rope),
          next: tokens,
          future,
          sinks,
          covariance: true,
          valueNorm: true,
          epsilon,
        });
      }),
    );

  it("keeps the formula's slots", async () => {
    const each = Math.floor(tokens / 2);
    const k = each - sinks;
    const plan = [
      [k, k],
      [k, k],
    ];
    const scores = scoresOf(512, 0);
    const method = expectedAttention({ tokens: each });
    const options = { attended: tokens, preRopeKeys: false };
    await expectPlanned(device, method, { prompt, scores, plan, sinks, recent: 0 }, options);
  });

  it("adaptive heads share a layer's budget", async () => {
    const each = Math.floor(tokens / 2);
    const scores = scoresOf(20, 0.01);
    const ranked = rankedPart({ scores, sinks, recent: 0 });
    const plan = ranked.map((rows) => adaptiveHeadBudgets(each - sinks, rows, 0.3));
    expect(plan.some(([first, second]) => first !== second)).toBe(true);
    const method = expectedAttention({
      tokens: each,
      futurePositions: 20,
      epsilon: 0.01,
      heads: "adaptive",
      floor: 0.3,
    });
    const options = { attended: tokens, preRopeKeys: false };
    await expectPlanned(device, method, { prompt, scores, plan, sinks, recent: 0 }, options);
  });

  it("defaults", () => {
    expect(expectedAttention({ keep: 0.5 })).toMatchObject({
      id: "expected-attention",
      score: {
        options: {
          window: 1024,
          futurePositions: 512,
          covariance: true,
          valueNorm: "l2",
          epsilon: 0,
        },
      },
      budget: { id: "uniform" },
      select: { sinks: 4, recent: 0 },
    });
    expect(() => expectedAttention({ keep: 0.5, heads: "all" as never })).toThrowError(
      expect.objectContaining({ code: "ERR_SPINDLEKV_ARGUMENT", param: "heads" }),
    );
  });
});
