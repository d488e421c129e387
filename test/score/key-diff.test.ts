// keyDiff(): cosine to the mean of the unit keys.
import { expect, it } from "vitest";
import { keyDiffScore } from "../../lib/index.ts";
import { makePrompt } from "../cache/fixtures.ts";
import { describeOp } from "../harness/backends.ts";
import { compareWithin } from "../harness/compare.ts";
import { cosineBound, sumBound } from "../harness/tolerance.ts";
import { keyDiffOracle } from "../oracle/scorers.ts";
import { selectTopkOracle } from "../oracle/select-topk.ts";
import { headRows, rankPrompt } from "./ranked.ts";

describeOp("keyDiff", (backend, device) => {
  const tokens = backend === "simt" ? 20 : 130;

  it.each(["none", "norm", "neox"] as const)("is minus the cosine (RoPE %s)", async (style) => {
    const shape = { layers: 2, queryHeads: 2, kvHeads: 2, headDim: 16, dtype: "f32" } as const;
    // Rows of a few directions: a mean that is not near 0.
    const prompt = makePrompt(shape, tokens, { seed: 6, clusters: [3, 2], noise: 0.4 });
    const rope = style === "none" ? undefined : { theta: 10_000, style };
    const { scores, kept } = await rankPrompt(device, prompt, keyDiffScore(), rope && { rope });
    for (let layer = 0; layer < 2; layer++) {
      for (let head = 0; head < 2; head++) {
        const expected = keyDiffOracle(headRows(prompt, layer, head, rope).keys);
        // The mean of unit rows is shorter than 1: its rounding counts more by as much.
        const bound = 32 * (cosineBound(16) + sumBound(1, tokens));
        compareWithin(`layer ${layer}, head ${head}`, scores[layer][head], expected, {
          element: () => bound,
        });
        const k = [Math.floor(tokens / 2)];
        const [{ indices }] = selectTopkOracle({ rows: [expected as never], k });
        expect(kept[layer][head]).toEqual(indices);
      }
    }
  });

  it("of equal keys the older ones stay", async () => {
    const shape = { layers: 1, queryHeads: 1, kvHeads: 1, headDim: 8, dtype: "f32" } as const;
    const prompt = makePrompt(shape, 12);
    prompt.layers[0].k.fill(1);
    const { kept } = await rankPrompt(device, prompt, keyDiffScore(), { tokens: 5 });
    expect(kept[0][0]).toEqual([0, 1, 2, 3, 4]);
  });
});
