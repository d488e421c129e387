// snapKV(): kept slots are those of the paper's formula; attention is dense attention over them.
import { expect, it } from "vitest";
import { KVCache, snapKV } from "../../lib/index.ts";
import { ask, feed, makePrompt, contentsOf } from "../cache/fixtures.ts";
import { compareAttention, denseValues } from "../cache/reference.ts";
import { describeOp, runCases } from "../harness/backends.ts";
import { matrix } from "../harness/cases.ts";
import { uniformBudgets } from "../oracle/budgets.ts";
import { windowMethodKept } from "../oracle/methods.ts";
import { expectAttention, expectKept } from "./kept.ts";
import { compressAndCompare } from "./window-cases.ts";

interface SnapCase {
  readonly group: "unfold" | "mean" | "max" | "sum";
  readonly visibility: "group" | "head";
  readonly norm: "sum" | "window" | "causalCount";
  readonly pool: "none" | "max" | "mean" | "valid";
  readonly heads: 1 | 3 | 4 | 8;
  readonly sinks: 0 | 3;
  readonly style: "none" | "norm" | "neox";
  readonly dtype: "f32" | "f16" | "bf16";
}

const cases = matrix<SnapCase>(
  {
    group: ["mean", "max", "sum", "unfold"],
    visibility: ["group", "head"],
    norm: ["sum", "window", "causalCount"],
    pool: ["none", "max", "mean", "valid"],
    heads: [1, 3, 4, 8],
    sinks: [0, 3],
    style: ["none", "norm", "neox"],
    dtype: ["f32", "f16", "bf16"],
  },
  {
    seed: 21,
    allow: ({ group, visibility, heads }) =>
      visibility === "group" || (group === "unfold" && heads > 1),
  },
);

const pools = {
  none: undefined,
  max: { kind: "max", kernel: 5, divisor: "kernel" },
  mean: { kind: "mean", kernel: 3, divisor: "kernel" },
  valid: { kind: "mean", kernel: 7, divisor: "valid" },
} as const;

describeOp("snapKV", (backend, device) => {
  const isSlow = backend === "simt";

  it("keeps the slots of the formula and attends to them alone", async () => {
    const all = cases.casesFor(backend);
    await runCases(device, isSlow ? all.slice(0, 4) : all, async (values, _arena, random) => {
      const { group, visibility, norm, heads, sinks, style, dtype } = values;
      const kvHeads = isSlow ? 1 : 2;
      const shape = { layers: 2, queryHeads: heads * kvHeads, kvHeads, headDim: 16, dtype };
      const tokens = isSlow ? 14 : 75;
      const window = isSlow ? 2 : 9;
      const target = isSlow ? 8 : 30;
      const pool = pools[values.pool];
      const rope = style === "none" ? undefined : { theta: 10_000, style };
      const method = snapKV({
        tokens: target,
        window,
        group,
        norm,
        sinks,
        visibility,
        pool: pool ?? null,
      });
      const context = tokens - window - sinks;
      const budgets = uniformBudgets(2 * (target - window - sinks), 2, context);
      const hasMasks = visibility === "head";
      using result = await compressAndCompare(
        device,
        { shape, tokens, window, seed: random.integer(1, 1e6), ...(rope && { rope }) },
        method,
        { group, norm, sinks, ...(pool && { pool }) },
        budgets,
        hasMasks,
      );
      const { cache, report, prompt, kept } = result;
      if (group !== "unfold") expect(report.slots).toBe(2 * kvHeads * target);
      await expectAttention(cache, prompt, kept, { ...(rope && { rope }), hasMasks });
      const { bytes, pool: pages } = cache.stats();
      expect(bytes.total).toBe(pages.bytesUsed);
      expect(bytes.masks).toBe(hasMasks ? 2 * report.slots : 0);
    });
  });

  it("decodes on: what comes after compression is seen by every head", async () => {
    const shape = { layers: 1, queryHeads: 4, kvHeads: 1, headDim: 16, dtype: "f16" } as const;
    const tokens = isSlow ? 10 : 60;
    const window = isSlow ? 2 : 8;
    const more = 3;
    const rope = { theta: 10_000, style: "neox" } as const;
    const prompt = makePrompt(shape, tokens + more);
    using cache = new KVCache(device, {
      ...shape,
      rope,
      method: snapKV({ tokens: window + 4, window, group: "unfold", visibility: "head" }),
    });
    await feed(cache, prompt, { to: tokens, attended: window });
    await cache.compress();
    expect(cache.stats().queryBytes).toBe(0);
    await feed(cache, prompt, { from: tokens, chunk: 1 });
    const before = denseValues(prompt, { layer: 0, from: tokens - window, to: tokens, rope });

    const pool = { kind: "max", kernel: 7, divisor: "kernel" } as const;
    const [kept] = windowMethodKept(before, { group: "unfold", k: 4, pool });
    for (let token = tokens; token < prompt.tokens; token++) {
      kept.indices.push(token);
      kept.masks.push(0xf);
    }
    const [out] = await ask(cache, prompt, prompt.tokens - 1, prompt.tokens);
    const values = denseValues(prompt, {
      layer: 0,
      from: prompt.tokens - 1,
      to: prompt.tokens,
      rope,
      isRotated: true,
      kept: () => kept.indices,
      masks: () => kept.masks,
    });
    compareAttention("after decode", out, values, "f16");
  });

  it("a prompt no longer than the window stays whole", async () => {
    const shape = { layers: 1, queryHeads: 2, kvHeads: 1, headDim: 8, dtype: "f32" } as const;
    for (const group of ["mean", "unfold"] as const) {
      const prompt = makePrompt(shape, 5);
      using cache = new KVCache(device, {
        ...shape,
        method: snapKV({ tokens: 8, window: 8, group }),
      });
      await feed(cache, prompt, { attended: 5 });
      expect(await cache.compress()).toMatchObject({ hasEvicted: false, slots: 5 });
      await expectKept(cache, 0, [{ indices: [0, 1, 2, 3, 4], masks: [] }]);
    }
  });

  it("scores are given for inspection, with nothing for the protected window", async () => {
    const shape = { layers: 2, queryHeads: 4, kvHeads: 2, headDim: 8, dtype: "f32" } as const;
    const tokens = 12;
    const prompt = makePrompt(shape, tokens);
    for (const [group, rows] of [
      ["mean", 2],
      ["unfold", 4],
    ] as const) {
      using cache = new KVCache(device, {
        ...shape,
        method: snapKV({ tokens: 6, window: 2, group, pool: null }),
      });
      await feed(cache, prompt, { attended: 4 });
      const seen: number[] = [];
      await cache.compress({
        onScores: (layer, scores, count) => {
          seen.push(layer);
          expect(count).toBe(rows);
          expect(scores).toHaveLength(rows * tokens);
          for (let r = 0; r < rows; r++) {
            const row = scores.subarray(r * tokens, (r + 1) * tokens);
            expect(Array.from(row.subarray(tokens - 2))).toEqual([0, 0]);
            expect(row.subarray(0, tokens - 2).every((score) => score > 0)).toBe(true);
          }
        },
      });
      expect(seen).toEqual([0, 1]);
    }
  });

  it("needs the queries of its window", async () => {
    const shape = { layers: 1, queryHeads: 2, kvHeads: 1, headDim: 8 } as const;
    const prompt = makePrompt(shape, 20);
    using cache = new KVCache(device, { ...shape, method: snapKV({ tokens: 8, window: 4 }) });
    await feed(cache, prompt, { attended: 3 });
    const before = await contentsOf(cache);
    await expect(cache.compress()).rejects.toMatchObject({
      code: "ERR_SPINDLEKV_MISSING_INPUT",
      op: "compress",
    });
    expect(await contentsOf(cache)).toBe(before);
  });

  it("names options that are out of range", () => {
    const bad: [object, string][] = [
      [{ keep: 0.5, window: 0 }, "window"],
      [{ keep: 0.5, window: 1025 }, "window"],
      [{ keep: 0.5, window: 2.5 }, "window"],
      [{ keep: 0.5, pool: { kind: "max", kernel: 4 } }, "pool.kernel"],
      [{ keep: 0.5, pool: { kind: "max", kernel: 1025 } }, "pool.kernel"],
      [{ keep: 0.5, pool: { kind: "min", kernel: 3 } }, "pool.kind"],
      [{ keep: 0.5, pool: { kind: "mean", kernel: 3, divisor: "all" } }, "pool.divisor"],
      [{ keep: 0.5, norm: "none" }, "norm"],
      [{ keep: 0.5, group: "median" }, "group"],
      [{ keep: 0.5, sinks: -1 }, "sinks"],
      [{ keep: 0.5, visibility: "all" }, "visibility"],
      [{ keep: 2 }, "keep"],
      [{ bytes: 0 }, "bytes"],
      [{ tokens: 0.5 }, "tokens"],
      [{ keep: 0.5, bytes: 3 }, "target"],
    ];
    for (const [options, param] of bad) {
      expect(() => snapKV(options as never), JSON.stringify(options)).toThrowError(
        expect.objectContaining({ code: "ERR_SPINDLEKV_ARGUMENT", param }),
      );
    }
  });
});
