// lagRelative(): blocks against the block that follows.
import { expect, it } from "vitest";
import { lagRelative } from "../../lib/index.ts";
import { makePrompt } from "../cache/fixtures.ts";
import { describeOp } from "../harness/backends.ts";
import { compareWithin } from "../harness/compare.ts";
import { roundingBound } from "../harness/tolerance.ts";
import { lagOracle } from "../oracle/scorers.ts";
import { headRows, rankPrompt } from "./ranked.ts";

const shape = { layers: 2, queryHeads: 4, kvHeads: 2, headDim: 16, dtype: "f32" } as const;

describeOp("lagRelative", (_backend, device) => {
  it.each([
    { tokens: 61, lag: 10, sinks: 4, crossScoring: false },
    { tokens: 61, lag: 10, sinks: 0, crossScoring: true },
    { tokens: 24, lag: 10, sinks: 4, crossScoring: false },
    { tokens: 30, lag: 1, sinks: 2, crossScoring: true },
  ])("gives the formula's scores: $tokens tokens, $lag, $sinks", async (values) => {
    const { tokens, lag, sinks, crossScoring } = values;
    const rope = { theta: 10_000, style: "neox" } as const;
    const prompt = makePrompt(shape, tokens, { seed: 7 });
    const score = lagRelative({ lag, crossScoring });
    const { scores } = await rankPrompt(device, prompt, score, { rope, sinks });
    for (let layer = 0; layer < 2; layer++) {
      for (let head = 0; head < 2; head++) {
        const own = scores[layer][head];
        const expected = lagOracle({ ...headRows(prompt, layer, head, rope), ...values });
        const isRanked = (_: unknown, slot: number) => expected[slot] !== undefined;
        const wanted = expected.filter((score) => score !== undefined);
        // A different order of the float64 sums may move the one rounding to f32.
        compareWithin(`layer ${layer}, head ${head}`, own.filter(isRanked), wanted, {
          element: (i) => 2 * roundingBound(wanted[i], "f32"),
        });
        const others = own.slice(sinks).filter((_, i) => !isRanked(_, sinks + i));
        expect(others.every((score) => score >= 1)).toBe(true);
        expect(others).toEqual(others.toSorted((a, b) => a - b));
        expect(new Set(others).size).toBe(others.length);
        expect(others.length).toBeGreaterThanOrEqual(lag);
      }
    }
  });

  it("every block gives up equally many slots", async () => {
    const prompt = makePrompt(shape, 4 + 5 * 12, { seed: 8 });
    const options = { sinks: 4, tokens: 4 + 4 * 6 + 12 };
    const { kept } = await rankPrompt(device, prompt, lagRelative({ lag: 12 }), options);
    for (const positions of kept.flat()) {
      const blocks = [0, 1, 2, 3, 4].map(
        (b) => positions.filter((p) => p >= 4 + 12 * b && p < 16 + 12 * b).length,
      );
      expect(blocks).toEqual([6, 6, 6, 6, 12]);
      expect(positions.slice(0, 4)).toEqual([0, 1, 2, 3]);
    }
  });

  it("a head of fewer than two blocks keeps its newest slots", async () => {
    const prompt = makePrompt(shape, 21);
    const { kept } = await rankPrompt(device, prompt, lagRelative({ lag: 10 }), {
      sinks: 2,
      tokens: 7,
    });
    expect(kept.flat()).toEqual(new Array(4).fill([0, 1, 16, 17, 18, 19, 20]));
  });

  it("keys stored before RoPE rank as those stored after it", async () => {
    const rope = { theta: 10_000, style: "norm" } as const;
    const prompt = makePrompt(shape, 50, { seed: 9 });
    const score = lagRelative({ lag: 8 });
    const after = await rankPrompt(device, prompt, score, { rope });
    const before = await rankPrompt(device, prompt, score, { rope, preRopeKeys: true });
    expect(before.kept).toEqual(after.kept);
  });

  it("channels that do not change count as 0", async () => {
    const prompt = makePrompt(shape, 24);
    for (const rows of [prompt.layers[0].k, prompt.layers[0].v]) {
      for (let i = 0; i < rows.length; i += 16) rows[i] = 3;
    }
    const { scores } = await rankPrompt(device, prompt, lagRelative({ lag: 8 }));
    const expected = lagOracle({
      ...headRows(prompt, 0, 0),
      lag: 8,
      sinks: 0,
      crossScoring: false,
    });
    expect(scores[0][0].slice(0, 16)).toEqual(expected.slice(0, 16));
  });

  it("names options that are out of range", () => {
    for (const [options, param] of [
      [{ lag: 0 }, "lag"],
      [{ lag: 1.5 }, "lag"],
      [{ crossScoring: 1 }, "crossScoring"],
    ] as const) {
      expect(() => lagRelative(options as never)).toThrowError(
        expect.objectContaining({ code: "ERR_SPINDLEKV_ARGUMENT", param }),
      );
    }
  });
});
