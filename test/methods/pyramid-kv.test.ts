// pyramidKV(): SnapKV's ranking with budgets that fall with depth, exact in sum.
import { describe, expect, it } from "vitest";
import { pyramid, pyramidKV } from "../../lib/index.ts";
import { Prng } from "../harness/prng.ts";
import { describeOp } from "../harness/backends.ts";
import { pyramidBudgets } from "../oracle/budgets.ts";
import { expectAttention } from "./kept.ts";
import { compressAndCompare } from "./window-cases.ts";

describe("pyramid budgets", () => {
  it("equal the formula, integer by integer, and sum exactly", () => {
    const random = new Prng(5);
    for (let i = 0; i < 2000; i++) {
      const layers = random.integer(1, 40);
      const context = random.integer(0, 3000);
      const total = random.integer(0, layers * context);
      const beta = random.pick([1.5, 2, 20, 30.5]);
      const id = `L=${layers} context=${context} total=${total} beta=${beta}`;
      const guarded = random.integer(0, 64);
      const plan = pyramid({ beta }).plan(total, { layers, context, guarded });
      expect(plan, `${id} guarded=${guarded}`).toEqual(
        pyramidBudgets(total, layers, context, beta, guarded),
      );
      expect(
        plan.reduce((a, b) => a + b, 0),
        id,
      ).toBe(total);
      expect(
        plan.every((k) => k >= 0 && k <= context),
        id,
      ).toBe(true);
    }
  });

  it("32 layers with 120 slots on average spend 3840, where integer steps spend 4016", () => {
    const plan = pyramid().plan(32 * 120, { layers: 32, context: 8000, guarded: 8 });
    expect(plan[0]).toBe(234);
    expect(plan.at(-1)).toBe(6);
    expect(plan.reduce((a, b) => a + b)).toBe(3840);
  });

  it("refuses a beta that is no slope", () => {
    for (const beta of [1, 0, -3, Number.NaN]) {
      expect(() => pyramid({ beta })).toThrowError(
        expect.objectContaining({ code: "ERR_SPINDLEKV_ARGUMENT", op: "pyramid", param: "beta" }),
      );
      expect(() => pyramidKV({ keep: 0.5, beta })).toThrowError(
        expect.objectContaining({ code: "ERR_SPINDLEKV_ARGUMENT", param: "beta" }),
      );
    }
  });
});

describeOp("pyramidKV", (backend, device) => {
  const isSlow = backend === "simt";
  const layers = isSlow ? 2 : 4;
  const tokens = isSlow ? 14 : 96;
  const window = isSlow ? 2 : 8;

  for (const group of ["mean", "unfold"] as const) {
    it(`keeps its budget of the best slots in every layer, group ${group}`, async () => {
      const shape = { layers, queryHeads: 6, kvHeads: 2, headDim: 16, dtype: "f16" } as const;
      const rope = { theta: 10_000, style: "norm" } as const;
      const target = isSlow ? 5 : 24;
      const context = tokens - window;
      const budgets = pyramidBudgets(layers * (target - window), layers, context, 20, window);
      using result = await compressAndCompare(
        device,
        { shape, tokens, window, rope },
        pyramidKV({ tokens: target, window, group }),
        { group, pool: { kind: "max", kernel: 7, divisor: "kernel" } },
        budgets,
      );
      const { report, cache, prompt, kept } = result;
      if (group === "mean") expect(report.slots).toBe(layers * 2 * target);
      const slots = cache.stats().perLayer.map((layer) => layer.slots);
      expect(slots).toEqual([...slots].sort((a, b) => b - a));
      await expectAttention(cache, prompt, kept, { rope });
    });
  }

  it("defaults are those of the reference runner", () => {
    expect(pyramidKV({ keep: 0.5 })).toMatchObject({
      id: "pyramidkv",
      score: {
        window: 8,
        options: {
          norm: "sum",
          group: "mean",
          pool: { kind: "max", kernel: 7, divisor: "kernel" },
        },
      },
      budget: { id: "pyramid" },
      select: { sinks: 0, recent: "window", visibility: "group" },
      codec: { id: "raw" },
      schedule: "after-prefill",
    });
  });
});
