// accumulatedAttention(), lastQuery() and globalLocal(): attention of all queries, of the last one, and of both kinds.
import { expect, it } from "vitest";
import { accumulatedAttention, globalLocal, lastQuery, type ScorePart } from "../../lib/index.ts";
import { makePrompt, type Prompt } from "../cache/fixtures.ts";
import { denseValues } from "../cache/reference.ts";
import { describeOp } from "../harness/backends.ts";
import { compareWithin } from "../harness/compare.ts";
import { logitScaleOf } from "../harness/heads.ts";
import { scoreSumBound } from "../harness/tolerance.ts";
import { attendOracle } from "../oracle/attend.ts";
import { poolScoresOracle } from "../oracle/pool-scores.ts";
import { reduceGroupOracle } from "../oracle/reduce-group.ts";
import { globalLocalOracle } from "../oracle/scorers.ts";
import { selectTopkOracle } from "../oracle/select-topk.ts";
import { type RankOptions, rankPrompt, wholeLayer } from "./ranked.ts";
import type { Device } from "../harness/api.ts";

const shape = { layers: 2, queryHeads: 6, kvHeads: 2, headDim: 16, dtype: "f32" } as const;
const rope = { theta: 10_000, style: "norm" } as const;

/** Attention per query head, added up over all queries or over the last `window` ones. */
function attention(prompt: Prompt, layer: number, window = prompt.tokens): Float64Array[] {
  const values =
    window === prompt.tokens
      ? wholeLayer(prompt, layer, rope)
      : denseValues(prompt, {
          layer,
          from: prompt.tokens - window,
          to: prompt.tokens,
          rope,
          isRotated: true,
        });
  return attendOracle(values).queryHeadScores;
}

const meanOf = (rows: readonly Float64Array[]) =>
  rows[0].map((_, slot) => rows.reduce((sum, row) => sum + row[slot], 0) / rows.length);

/** Scores and kept slots of every layer are those of the oracle. */
async function expectRanked(
  device: Device,
  prompt: Prompt,
  score: ScorePart,
  oracle: (layer: number) => readonly Float64Array[],
  options: RankOptions = {},
) {
  const { sinks = 0, recent = 0 } = options;
  const { scores, kept } = await rankPrompt(device, prompt, score, { rope, ...options });
  for (let layer = 0; layer < shape.layers; layer++) {
    const expected = oracle(layer);
    const scale = logitScaleOf(wholeLayer(prompt, layer, rope));
    expected.forEach((row, head) => {
      compareWithin(`layer ${layer}, head ${head}`, scores[layer][head], row, {
        // Sums of a group of three, in float32.
        element: (i) => 2 * scoreSumBound(row[i], 0, 3 * prompt.tokens, scale),
      });
      const k = [Math.floor(prompt.tokens / 2) - sinks - recent];
      const [{ indices }] = selectTopkOracle({ rows: [row as never], k, sinks, recent });
      expect(kept[layer][head], `layer ${layer}, head ${head}`).toEqual(indices);
    });
  }
}

describeOp("scores by attention so far", (backend, device) => {
  const tokens = backend === "simt" ? 18 : 70;
  const prompt = makePrompt(shape, tokens, { seed: 31 });
  const reduced = (layer: number, kind: "sum" | "max") =>
    reduceGroupOracle({ rows: attention(prompt, layer) as never[], group: 3, kind });
  const byAge = (row: Float64Array) => row.map((sum, slot) => sum / (tokens - slot));

  it.each([undefined, 7])("accumulatedAttention: the sum (chunks of %s)", async (chunk) => {
    const options = { sinks: 2, recent: 4, ...(chunk && { chunk }) };
    const oracle = (layer: number) => reduced(layer, "sum");
    await expectRanked(device, prompt, accumulatedAttention(), oracle, options);
  });

  it("accumulatedAttention: over the queries that saw the slot", async () => {
    const score = accumulatedAttention({ normalize: "causalCount" });
    await expectRanked(device, prompt, score, (layer) => reduced(layer, "sum").map(byAge));
  });

  it("accumulatedAttention: the largest of the group", async () => {
    const score = accumulatedAttention({ group: "max" });
    await expectRanked(device, prompt, score, (layer) => reduced(layer, "max"));
  });

  it("accumulatedAttention: one ranking a layer", async () => {
    const score = accumulatedAttention({ scope: "layer" });
    await expectRanked(device, prompt, score, (layer) => {
      const mean = meanOf(reduced(layer, "sum"));
      return [mean, mean];
    });
  });

  it("lastQuery: one ranking a layer", async () => {
    await expectRanked(device, prompt, lastQuery(), (layer) => {
      const mean = meanOf(attention(prompt, layer, 1));
      return [mean, mean];
    });
  });

  it.each(["mean", "max", "sum"] as const)("lastQuery: a head's %s", async (group) => {
    const score = lastQuery({ scope: "kv-head", group });
    await expectRanked(device, prompt, score, (layer) =>
      reduceGroupOracle({ rows: attention(prompt, layer, 1) as never[], group: 3, kind: group }),
    );
  });

  it.each([
    { combine: "sum", pool: null },
    { combine: "max", pool: null },
    { combine: "sum", pool: { kind: "max", kernel: 5 } },
  ] as const)("globalLocal: $combine, pooled by $pool", async ({ combine, pool }) => {
    const window = 5;
    const [sinks, recent] = [1, 3];
    const score = globalLocal({ window, combine, pool });
    const oracle = (layer: number) => {
      const local = reduceGroupOracle({
        rows: attention(prompt, layer, window) as never[],
        group: 3,
        kind: "sum",
      });
      return reduced(layer, "sum").map((row, head) => {
        const [from, to] = [sinks, tokens - recent];
        const near = Array.from(local[head]);
        const mixed = globalLocalOracle(Array.from(row), near, from, to, combine);
        // What is protected takes no part in pooling.
        const ranked = Float64Array.from(mixed.slice(0, to));
        const [pooled] =
          pool === null
            ? [ranked]
            : poolScoresOracle({ rows: [ranked as never], ...pool, divisor: "kernel" });
        const all = new Float64Array(tokens);
        all.set(pooled);
        return all;
      });
    };
    await expectRanked(device, prompt, score, oracle, { sinks, recent });
  });

  it("names options that are out of range", () => {
    const bad: [() => unknown, string][] = [
      [() => accumulatedAttention({ normalize: "age" as never }), "normalize"],
      [() => accumulatedAttention({ group: "mean" as never }), "group"],
      [() => accumulatedAttention({ scope: "head" as never }), "scope"],
      [() => lastQuery({ scope: "head" as never }), "scope"],
      [() => lastQuery({ group: "min" as never }), "group"],
      [() => globalLocal({ window: 0 }), "window"],
      [() => globalLocal({ combine: "mean" as never }), "combine"],
      [() => globalLocal({ pool: { kind: "min" as never, kernel: 3 } }), "pool.kind"],
      [() => globalLocal({ pool: { kind: "max", kernel: 4 } }), "pool.kernel"],
    ];
    for (const [make, param] of bad) {
      expect(make).toThrowError(expect.objectContaining({ code: "ERR_SPINDLEKV_ARGUMENT", param }));
    }
  });
});
