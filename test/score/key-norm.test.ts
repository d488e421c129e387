// keyNorm(): the length of the key, RoPE or not.
import { expect, it } from "vitest";
import { keyNorm } from "../../lib/index.ts";
import { makePrompt } from "../cache/fixtures.ts";
import { describeOp } from "../harness/backends.ts";
import { compareWithin } from "../harness/compare.ts";
import { sumBound } from "../harness/tolerance.ts";
import { keyNormOracle } from "../oracle/scorers.ts";
import { selectTopkOracle } from "../oracle/select-topk.ts";
import { headRows, rankPrompt } from "./ranked.ts";

describeOp("keyNorm", (backend, device) => {
  const tokens = backend === "simt" ? 20 : 90;

  it.each(["none", "norm", "neox"] as const)("is minus the norm (RoPE %s)", async (style) => {
    const shape = { layers: 2, queryHeads: 4, kvHeads: 2, headDim: 16, dtype: "f32" } as const;
    const prompt = makePrompt(shape, tokens, { seed: 5 });
    const rope = style === "none" ? undefined : { theta: 10_000, style };
    const options = { sinks: 2, recent: 3, ...(rope && { rope }) };
    const { scores, kept } = await rankPrompt(device, prompt, keyNorm(), options);
    for (let layer = 0; layer < 2; layer++) {
      for (let head = 0; head < 2; head++) {
        const { keys } = headRows(prompt, layer, head, rope);
        const expected = keyNormOracle(keys);
        compareWithin(`layer ${layer}, head ${head}`, scores[layer][head], expected, {
          element: (i) => sumBound(-expected[i], 16, 4),
        });
        const k = [Math.floor(tokens / 2) - 5];
        const [{ indices }] = selectTopkOracle({
          rows: [expected as never],
          k,
          sinks: 2,
          recent: 3,
        });
        expect(kept[layer][head]).toEqual(indices);
      }
    }
  });

  it("NaN in a key is an error", async () => {
    const shape = { layers: 1, queryHeads: 1, kvHeads: 1, headDim: 8, dtype: "f32" } as const;
    const prompt = makePrompt(shape, 12);
    prompt.layers[0].k[20] = Number.NaN;
    await expect(rankPrompt(device, prompt, keyNorm())).rejects.toMatchObject({
      code: "ERR_SPINDLEKV_NON_FINITE",
    });
  });
});
