// random(): a number for every slot that nothing but seed, layer, head and position decides.
import { expect, it } from "vitest";
import { random } from "../../lib/index.ts";
import { makePrompt } from "../cache/fixtures.ts";
import { describeOp } from "../harness/backends.ts";
import { rankPrompt } from "./ranked.ts";

const shape = { layers: 2, queryHeads: 2, kvHeads: 2, headDim: 8, dtype: "f32" } as const;

describeOp("random", (_backend, device) => {
  it("is the same again, other with another seed, layer or head", async () => {
    const prompt = makePrompt(shape, 64);
    const first = await rankPrompt(device, prompt, random({ seed: 3 }));
    const again = await rankPrompt(device, prompt, random({ seed: 3 }), { chunk: 9 });
    expect(again).toEqual(first);
    const other = await rankPrompt(device, prompt, random({ seed: 4 }));
    const rows = [...first.scores.flat(), ...other.scores.flat()].map((row) => row.join());
    expect(new Set(rows).size).toBe(8);
  });

  it("a rank's heads get what they get in one cache", async () => {
    const whole = await rankPrompt(device, makePrompt(shape, 30), random({ seed: 5 }));
    const half = { ...shape, queryHeads: 1, kvHeads: 1 };
    const ranks = {
      rank: 1,
      size: 2,
      allReduce: async (values: Float64Array) => values.map((x) => 2 * x),
    };
    const second = await rankPrompt(device, makePrompt(half, 30), random({ seed: 5 }), { ranks });
    expect(second.scores).toEqual(whole.scores.map(([, row]) => [row]));
    expect(second.kept).toEqual(whole.kept.map(([, row]) => [row]));
  });

  it("lies in [0, 1), its mean and variance as of a uniform number", async () => {
    const { scores } = await rankPrompt(device, makePrompt(shape, 500), random());
    const all = scores.flat(2);
    expect(all.every((score) => score >= 0 && score < 1)).toBe(true);
    const mean = all.reduce((a, b) => a + b, 0) / all.length;
    const variance = all.reduce((a, b) => a + (b - mean) ** 2, 0) / all.length;
    // 2000 numbers: four standard errors of the mean and of the variance.
    expect(Math.abs(mean - 1 / 2)).toBeLessThan(4 * Math.sqrt(1 / 12 / all.length));
    expect(Math.abs(variance - 1 / 12)).toBeLessThan(4 * Math.sqrt(1 / 180 / all.length));
  });

  it("names a seed that is none", () => {
    for (const seed of [-1, 0.5, 2 ** 31]) {
      expect(() => random({ seed })).toThrowError(
        expect.objectContaining({ code: "ERR_SPINDLEKV_ARGUMENT", param: "seed" }),
      );
    }
  });
});
