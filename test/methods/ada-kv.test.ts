// adaKV(): SnapKV's ranking, heads by where the best scores of their layer are; pages of small heads are really freed.
import { expect, it } from "vitest";
import { adaKV, snapKV } from "../../lib/index.ts";
import { describeOp } from "../harness/backends.ts";
import { adaptiveHeadBudgets } from "../oracle/allocators.ts";
import { pyramidBudgets, uniformBudgets } from "../oracle/budgets.ts";
import { expectPlanned, fillByLayer, rankedBy, rankedPart, unevenPrompt } from "./planned.ts";

describeOp("adaKV", (backend, device) => {
  const isSlow = backend === "simt";
  const layers = isSlow ? 2 : 3;
  const tokens = isSlow ? 18 : 90;
  const window = isSlow ? 3 : 8;
  const shape = { layers, queryHeads: 6, kvHeads: 3, headDim: 16, dtype: "f16" } as const;
  const prompt = unevenPrompt(shape, tokens);
  const context = tokens - window;
  const scores = prompt.layers.map((_, layer) =>
    rankedBy(prompt, layer, { window, pool: { kind: "max", kernel: 7 }, group: "mean" }),
  );
  const ranked = rankedPart({ scores, recent: window });

  for (const budget of ["uniform", "pyramid"] as const) {
    for (const floor of [0.2, 0]) {
      it(`shares a layer's ${budget} budget among its heads, floor ${floor}`, async () => {
        const each = isSlow ? 5 : 20;
        const perLayer =
          budget === "uniform"
            ? uniformBudgets(layers * each, layers, context)
            : pyramidBudgets(layers * each, layers, context, 3, window);
        const plan = perLayer.map((k, layer) => adaptiveHeadBudgets(k, ranked[layer], floor));
        expect(plan.some((rows) => new Set(rows).size > 1)).toBe(true);
        const method = adaKV({ tokens: each + window, window, floor, layers: budget, beta: 3 });
        const kept = await expectPlanned(
          device,
          method,
          { prompt, scores, plan, recent: window },
          { attended: window },
        );
        const slots = kept.flat().reduce((sum, { indices }) => sum + indices.length, 0);
        expect(slots).toBe(layers * 3 * (each + window));
      });
    }
  }

  it("defaults are a floor of 0.2, uniform layers and SnapKV's ranking", () => {
    expect(adaKV({ keep: 0.5 })).toMatchObject({
      id: "adakv",
      score: { window: 32, options: { group: "mean", pool: { kind: "max", kernel: 7 } } },
      budget: { id: "adaptive-heads", options: { floor: 0.2 } },
      schedule: "after-prefill",
    });
    expect(() => adaKV({ keep: 0.5, layers: "cubic" as never })).toThrowError(
      expect.objectContaining({ code: "ERR_SPINDLEKV_ARGUMENT", op: "adaKV", param: "layers" }),
    );
  });

  if (isSlow) return;

  it("heads that keep less hold fewer pages: the pool shrinks as it does under even budgets", async () => {
    const long = unevenPrompt(shape, 600, 8);
    const bytesOf = async (method: ReturnType<typeof adaKV>) => {
      using cache = await fillByLayer(device, long, { attended: 32, pageSlots: 16, method });
      const before = cache.stats().pool;
      const report = await cache.compress();
      const { pool, bytes, perLayer } = cache.stats();
      expect(pool.bytesUsed).toBe(bytes.total);
      expect(pool.pagesUsed).toBeLessThan(0.5 * before.pagesUsed);
      return { bytes: report.bytes, heads: perLayer.map(({ heads }) => heads.map((h) => h.slots)) };
    };
    const adaptive = await bytesOf(adaKV({ tokens: 120 }));
    const even = await bytesOf(snapKV({ tokens: 120 }));
    expect(even.heads.flat()).toEqual(new Array(9).fill(120));
    const spread = Math.max(...adaptive.heads.flat()) - Math.min(...adaptive.heads.flat());
    expect(spread).toBeGreaterThan(16);
    // A page more or less a head for the ends of its pages.
    expect(Math.abs(adaptive.bytes - even.bytes) / even.bytes).toBeLessThan(0.05);
  });
});
