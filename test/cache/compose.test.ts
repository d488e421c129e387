// compose(): parts recombine freely; what needs another part says so.
import { expect, it } from "vitest";
import {
  codebook,
  compose,
  coverage,
  KVCache,
  type Method,
  observationWindow,
  position,
  pyramid,
  raw,
  sinksAndRecent,
  spindlePyramid,
  squeeze,
  topK,
  uniform,
} from "../../lib/index.ts";
import { describeOp } from "../harness/backends.ts";
import { storedLayer } from "../methods/kept.ts";
import { sinksAndRecentKept } from "../oracle/methods.ts";
import { ask, feed, makePrompt, contentsOf } from "./fixtures.ts";
import { compareAttention, storedValues } from "./reference.ts";

const rope = { theta: 10_000, style: "norm" } as const;
const shape = { layers: 3, queryHeads: 6, kvHeads: 2, headDim: 16, dtype: "f16" } as const;

describeOp("compose", (backend, device) => {
  const isSlow = backend === "simt";
  const tokens = isSlow ? 14 : 120;
  const window = isSlow ? 2 : 8;
  const target = isSlow ? 8 : 30;
  const prompt = makePrompt(shape, tokens, { clusters: [4, 30, 0] });

  const scores = {
    window: observationWindow({ window }),
    "window unfolded": observationWindow({ window, group: "unfold", pool: null }),
    position: position(),
  };
  const budgets = { uniform: uniform(), pyramid: pyramid(), spindle: spindlePyramid() };
  const selects = {
    best: topK({ recent: window }),
    "best with sinks": topK({ recent: window, sinks: 2, visibility: "head" }),
    recent: sinksAndRecent({ sinks: 2 }),
  };
  const codecs = { raw: raw(), codebook: codebook(), "raw window": codebook({ recentRaw: true }) };

  const all: [string, Method][] = Object.entries(scores).flatMap(([scoreName, score]) =>
    Object.entries(budgets).flatMap(([budgetName, budget]) =>
      Object.entries(selects).flatMap(([selectName, select]) =>
        Object.entries(codecs).map(([codecName, codec]): [string, Method] => [
          `${scoreName}, ${budgetName}, ${selectName}, ${codecName}`,
          compose({ id: "mixed", target: { tokens: target }, score, budget, select, codec }),
        ]),
      ),
    ),
  );

  it("every combination of parts keeps its budget and attends to what it holds", async () => {
    using cache = new KVCache(device, {
      ...shape,
      rope,
      preRopeKeys: true,
      recordQueries: window,
      pageSlots: 16,
    });
    await feed(cache, prompt, { attended: window });
    expect(all).toHaveLength(81);
    for (const [name, method] of isSlow ? all.filter((_, i) => i % 20 === 7) : all) {
      using fork = cache.fork({ method, preRopeKeys: true });
      const report = await fork.compress();
      expect(report.hasEvicted, name).toBe(true);
      if (!name.includes("unfolded")) expect(report.slots, name).toBe(3 * 2 * target);
      const outputs = await ask(fork, prompt, tokens - 1, tokens);
      for (const [layer, out] of outputs.entries()) {
        const stored = await storedLayer(fork, layer);
        const options = { layer, from: tokens - 1, to: tokens, rope };
        compareAttention(
          `${name}, layer ${layer}`,
          out,
          storedValues(prompt, stored, options),
          "f16",
        );
      }
    }
  });

  it("ranking by position keeps the newest", async () => {
    const method = compose({
      id: "newest",
      target: { tokens: target },
      score: position(),
      budget: uniform(),
      select: topK({ recent: 3, sinks: 1 }),
    });
    using cache = new KVCache(device, { ...shape, rope, method });
    await feed(cache, prompt);
    await cache.compress();
    for (const head of await storedLayer(cache, 2)) {
      expect(Array.from(head.positions)).toEqual(sinksAndRecentKept(tokens, 1, target - 1));
    }
  });

  it("a method is plain frozen data that any number of caches may use", async () => {
    const options = {
      id: "mine",
      target: { tokens: target },
      score: scores.window,
      budget: budgets.pyramid,
      select: selects.best,
    };
    const method = compose(options);
    expect(Object.isFrozen(method) && Object.isFrozen(method.target)).toBe(true);
    expect(compose(options)).toEqual(method);
    options.target.tokens = 1;
    expect(method.target).toEqual({ tokens: target });
    const snapshots: string[] = [];
    for (let i = 0; i < 2; i++) {
      using cache = new KVCache(device, { ...shape, rope, method });
      await feed(cache, prompt, { attended: window });
      await cache.compress();
      snapshots.push(await contentsOf(cache));
    }
    expect(snapshots[0]).toEqual(snapshots[1]);
  });

  it("says which part needs which", () => {
    const unfolded = scores["window unfolded"];
    const base = {
      id: "mine",
      target: { tokens: 5 },
      budget: uniform(),
      score: position(),
      select: selects.best,
    } as const;
    const { target: _, ...untargeted } = base;
    const often = { ...base, schedule: { every: 3 } } as const;
    const cascading = { ...base, schedule: "per-layer" } as const;
    const bad: [Parameters<typeof compose>[0], string][] = [
      [{ ...base, select: topK() }, "score"],
      [{ ...base, select: null }, "parts"],
      [untargeted, "target"],
      [{ ...base, budget: coverage() }, "target"],
      [{ ...base, minTokens: -1 }, "minTokens"],
      [{ ...base, schedule: "often" as never }, "schedule"],
      [{ ...base, schedule: { every: 0 } }, "schedule.every"],
      [{ ...base, schedule: { overflow: 1.5 } }, "schedule.overflow"],
      [{ id: "mine", schedule: "every-step" }, "score"],
      [{ id: "mine", schedule: "every-step", score: position() }, "budget"],
      [{ ...often, codec: codebook() }, "codec"],
      [{ ...base, select: selects.recent, schedule: "every-step", codec: codebook() }, "codec"],
      [{ ...often, score: unfolded }, "group"],
      [{ ...often, schedule: { overflow: 2 }, target: { keep: 0.5 } }, "target"],
      [{ id: "mine", schedule: "per-layer" }, "target"],
      [{ ...cascading, budget: squeeze() }, "budget"],
      [{ ...cascading, codec: codebook() }, "codec"],
      [{ ...cascading, score: unfolded }, "group"],
    ];
    for (const [options, param] of bad) {
      expect(() => compose(options), param).toThrowError(
        expect.objectContaining({ code: "ERR_SPINDLEKV_ARGUMENT", op: "compose", param }),
      );
    }
  });
});
