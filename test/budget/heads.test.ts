// Budgets that give each head its own number: the global threshold, Ada-KV, offline tables, coverage; and every budget
// on several ranks.
import { describe, expect, it } from "vitest";
import {
  adaptiveHeads,
  cascade,
  coverage,
  entropyCascade,
  type EvidenceBudget,
  globalLayers,
  globalPrefix,
  profiled,
  pyramid,
  skipLayers,
  uncertainty,
  uniform,
} from "../../lib/index.ts";
import { cappedLayerCounts, globalCounts } from "../../lib/budget/global-threshold.ts";
import { cappedShares, largestRemainder } from "../../lib/budget/largest-remainder.ts";
import { Prng } from "../harness/prng.ts";
import {
  adaptiveHeadBudgets,
  bestCounts,
  capped,
  cappedIntegers,
  coverageSuffix,
  entropyBudgets,
  profiledBudgets,
} from "../oracle/allocators.ts";
import { pyramidBudgets, uniformBudgets } from "../oracle/budgets.ts";
import {
  type Evidence,
  makeEvidence,
  perRow,
  planOf,
  planOverRanks,
  plansOf,
  rankedScores,
} from "./evidence.ts";

const alone = { rank: 0, ranks: 1, sumOverRanks: async (values: Float64Array) => values };

/** Rows of awkward floats: equal ones, both zeros, NaN, infinities, subnormals, both signs. */
function awkwardRows(random: Prng, layers: number, rows: number): Float32Array[][] {
  const special = [0, -0, Number.NaN, Infinity, -Infinity, 1e-42, -1e-42, 1, -1, 1.0000001];
  return Array.from({ length: layers }, () =>
    Array.from({ length: rows }, () =>
      Float32Array.from({ length: random.integer(0, 40) }, () =>
        random.uniform() < 0.5 ? random.pick(special) : Math.fround(random.normal()),
      ),
    ),
  );
}

describe("the best k of all rows", () => {
  it("are those of a plain sort, whatever floats there are", async () => {
    for (let seed = 1; seed <= 200; seed++) {
      const random = new Prng(seed);
      const scores = awkwardRows(random, random.integer(1, 5), random.integer(1, 4));
      const all = scores.flat().reduce((sum, row) => sum + row.length, 0);
      for (const k of [0, 1, random.integer(0, all), all, all + 7, Infinity]) {
        const id = `seed=${seed} k=${k} of ${all}`;
        expect(await globalCounts(scores, k, alone), id).toEqual(bestCounts(scores, k));
      }
    }
  });

  it("pass over layers that have the most that they may", async () => {
    for (let seed = 1; seed <= 200; seed++) {
      const random = new Prng(seed);
      const scores = awkwardRows(random, random.integer(1, 5), random.integer(1, 4));
      const all = scores.flat().reduce((sum, row) => sum + row.length, 0);
      const most = random.integer(0, 60);
      const k = random.integer(0, all);
      const expected = bestCounts(scores, k, most).map((rows) => rows.reduce((a, b) => a + b, 0));
      const id = `seed=${seed} k=${k} most=${most}`;
      expect(await cappedLayerCounts(scores, k, most, alone), id).toEqual(expected);
    }
  });

  it("-0 ties with 0, NaN comes last, the earlier layer and row win ties", async () => {
    const rows = [[Float32Array.of(0, Number.NaN), Float32Array.of(-0, 0)], [Float32Array.of(0)]];
    expect(await globalCounts(rows, 1, alone)).toEqual([[1, 0], [0]]);
    expect(await globalCounts(rows, 2, alone)).toEqual([[1, 1], [0]]);
    expect(await globalCounts(rows, 4, alone)).toEqual([[1, 2], [1]]);
    expect(await globalCounts(rows, 5, alone)).toEqual([[2, 2], [1]]);
  });
});

describe("shares made integers", () => {
  it("follow the formula with caps, sum exactly and stay under the caps", () => {
    for (let seed = 1; seed <= 500; seed++) {
      const random = new Prng(seed);
      const count = random.integer(1, 12);
      const shares = Array.from({ length: count }, () =>
        random.uniform() < 0.2 ? 0 : Math.exp(3 * random.normal()),
      );
      const caps = Array.from({ length: count }, () => random.integer(0, 50));
      const most = caps.reduce((a, b) => a + b, 0);
      const total = random.integer(0, most + 10);
      const plan = largestRemainder(shares, total, caps);
      const id = `seed=${seed}`;
      expect(plan, id).toEqual(cappedIntegers(shares, total, caps));
      expect(
        plan.reduce((a, b) => a + b, 0),
        id,
      ).toBe(Math.min(total, most));
      expect(
        plan.every((k, i) => k >= 0 && k <= caps[i]),
        id,
      ).toBe(true);
      const exact = capped(shares, total, caps);
      cappedShares(shares, Math.min(total, most), caps).forEach((share, i) => {
        expect(share, id).toBeCloseTo(exact[i], 8);
      });
    }
  });

  it("3 1 1 of 7 under a cap of 3 are 3 2 2; shares of 0 wait until the others are full", () => {
    expect(largestRemainder([3, 1, 1], 7, 3)).toEqual([3, 2, 2]);
    expect(largestRemainder([0, 1, 0], 4, 2)).toEqual([1, 2, 1]);
    expect(largestRemainder([0, 0, 0], 4, 2)).toEqual([2, 1, 1]);
    expect(largestRemainder([1, 1], 10, [2, 5])).toEqual([2, 5]);
    expect(largestRemainder([1, 1, 1], 5, 9)).toEqual([2, 2, 1]);
  });
});

describe("adaptiveHeads", () => {
  const within: Record<string, [() => EvidenceBudget, (e: Evidence, total: number) => number[]]> = {
    uniform: [
      () => adaptiveHeads({ layers: uniform() }),
      ({ layers, context }, total) => uniformBudgets(total, layers, context),
    ],
    pyramid: [
      () => adaptiveHeads({ layers: pyramid({ beta: 5 }) }),
      ({ layers, context, guarded }, total) => pyramidBudgets(total, layers, context, 5, guarded),
    ],
    entropyCascade: [
      () => adaptiveHeads({ layers: entropyCascade() }),
      (evidence, total) => entropyBudgets(total, rankedScores(evidence), evidence.context),
    ],
  };
  for (const [name, [make, layerBudgets]] of Object.entries(within)) {
    it(`splits what ${name} gives a layer by its best scores`, async () => {
      for (let seed = 1; seed <= 100; seed++) {
        const random = new Prng(seed);
        const evidence = makeEvidence(seed, seed % 2 === 0 ? { step: 0.04 } : {});
        const total = random.integer(0, evidence.layers * evidence.context);
        const scores = rankedScores(evidence);
        const expected = layerBudgets(evidence, total).map((k, layer) =>
          adaptiveHeadBudgets(k, scores[layer], 0.2),
        );
        expect(await planOf(make(), evidence, total), `seed=${seed}`).toEqual(expected);
      }
    });
  }

  it("floor 1 is the same for every head, floor 0 the best scores alone", async () => {
    const evidence = makeEvidence(4, { layers: 3, heads: 4, context: 50 });
    const scores = rankedScores(evidence);
    const even = await planOf(adaptiveHeads({ layers: uniform(), floor: 1 }), evidence, 60);
    expect(even).toEqual(new Array(3).fill([20, 20, 20, 20]));
    const best = await planOf(adaptiveHeads({ layers: uniform(), floor: 0 }), evidence, 60);
    expect(best).toEqual(scores.map((rows) => bestCounts([rows], 80)[0]));
    expect(best).not.toEqual(even);
  });

  it("refuses a floor out of range and a budget without a target", () => {
    const bad = { code: "ERR_SPINDLEKV_ARGUMENT", op: "adaptiveHeads" };
    expect(() => adaptiveHeads({ layers: uniform(), floor: 1.1 })).toThrowError(
      expect.objectContaining({ ...bad, param: "floor" }),
    );
    expect(() => adaptiveHeads({ layers: coverage() })).toThrowError(
      expect.objectContaining({ ...bad, param: "layers" }),
    );
  });
});

describe("profiled", () => {
  const tableOf = (random: Prng, layers: number, heads: number) =>
    Array.from({ length: layers }, () =>
      Array.from({ length: heads }, () => (random.uniform() < 0.1 ? 0 : random.uniform())),
    );

  it("gives every head its floor and its share of the rest", async () => {
    for (let seed = 1; seed <= 150; seed++) {
      const random = new Prng(seed);
      const evidence = makeEvidence(seed);
      const { layers, heads, context } = evidence;
      const importance = tableOf(random, layers, heads);
      const tau = random.pick([0.5, 1, 3]);
      const least = random.pick([0, 0.2, 1]);
      const total = random.integer(0, layers * context + 4);
      const budget = profiled({ model: "made up", importance, tau, least });
      expect(await planOf(budget, evidence, total), `seed=${seed}`).toEqual(
        profiledBudgets(total, importance, context, tau, least),
      );
    }
  });

  it("is not for a model of another shape, nor for tables that are none", async () => {
    const evidence = makeEvidence(5, { layers: 3, heads: 2, context: 9 });
    const profile = { model: "made up", importance: [[1, 1]], tau: 1, least: 0 };
    await expect(planOf(profiled(profile), evidence, 9)).rejects.toMatchObject({
      code: "ERR_SPINDLEKV_ARGUMENT",
      param: "importance",
    });
    const wrong: [string, object][] = [
      ["model", { model: 7 }],
      ["importance", { importance: [] }],
      ["importance", { importance: [[1, -1]] }],
      ["importance", { importance: [[1, Number.NaN]] }],
      ["tau", { tau: 0 }],
      ["least", { least: 2 }],
    ];
    for (const [param, change] of wrong) {
      expect(() => profiled({ ...profile, ...change } as never), param).toThrowError(
        expect.objectContaining({ code: "ERR_SPINDLEKV_ARGUMENT", op: "profiled", param }),
      );
    }
  });
});

describe("coverage", () => {
  it("keeps the fewest newest slots that leave at most the loss of the norm", async () => {
    for (let seed = 1; seed <= 200; seed++) {
      const random = new Prng(seed);
      const evidence = makeEvidence(seed);
      const loss = random.pick([0, 0.01, 0.1, 0.5]);
      const least = random.pick([0, 1, 8]);
      const expected = evidence.scores.map((rows) =>
        rows.map((row) => Math.max(least, coverageSuffix(row, evidence.sinks, loss))),
      );
      const plan = await planOf(coverage({ loss, least }), evidence, Infinity);
      expect(plan, `seed=${seed} loss=${loss} least=${least}`).toEqual(expected);
    }
  });

  it("grows as the loss falls, and skipLayers keeps its layers whole", async () => {
    const evidence = makeEvidence(11, { layers: 5, heads: 2, context: 60 });
    const rows = async (loss: number) =>
      perRow(await planOf(coverage({ loss, least: 0 }), evidence, Infinity), 2).flat();
    let before = await rows(0.9);
    for (const loss of [0.5, 0.2, 0.05, 0.01, 0]) {
      const now = await rows(loss);
      expect(now.every((k, i) => k >= before[i])).toBe(true);
      before = now;
    }
    const budget = skipLayers({ budget: coverage({ loss: 0.3, least: 0 }), skip: [0, 1] });
    const plan = await planOf(budget, evidence, Infinity);
    expect(plan.slice(0, 2)).toEqual([60, 60]);
    expect(plan.slice(2)).toEqual(
      (await planOf(coverage({ loss: 0.3, least: 0 }), evidence, Infinity)).slice(2),
    );
  });

  it("refuses options out of range", () => {
    for (const [param, options] of [
      ["loss", { loss: 1 }],
      ["loss", { loss: Number.NaN }],
      ["least", { least: 1.5 }],
    ] as const) {
      expect(() => coverage(options)).toThrowError(
        expect.objectContaining({ code: "ERR_SPINDLEKV_ARGUMENT", op: "coverage", param }),
      );
    }
  });
});

describe("ranks that share the heads", () => {
  const importance = Array.from({ length: 6 }, (_, l) =>
    Array.from({ length: 12 }, (__, h) => ((l + 1) * (h + 3)) % 7),
  );
  const budgets: Record<string, EvidenceBudget> = {
    uncertainty: uncertainty(),
    cascade: cascade(),
    entropyCascade: entropyCascade(),
    globalPrefix: globalPrefix(),
    globalLayers: globalLayers({ most: 2 }),
    "adaptiveHeads uniform": adaptiveHeads({ layers: uniform() }),
    "adaptiveHeads entropy": adaptiveHeads({ layers: entropyCascade(), floor: 0 }),
    profiled: profiled({ model: "made up", importance, tau: 1, least: 0.1 }),
    coverage: coverage(),
    skipLayers: skipLayers({ budget: uncertainty(), skip: [2] }),
  };
  for (const [name, budget] of Object.entries(budgets)) {
    it(`come to the plan of one process, ${name}`, async () => {
      for (let seed = 1; seed <= 12; seed++) {
        const step = seed % 2 === 0 ? 0.05 : 0;
        const evidence = makeEvidence(seed, { layers: 6, heads: 12, context: 80, step });
        for (const total of [0, 17, 200, 480]) {
          const [expected] = await plansOf(budget, evidence, [total]);
          for (const size of [2, 3, 4]) {
            const { plan, exchanged } = await planOverRanks(budget, evidence, size, total);
            expect(plan, `seed=${seed} total=${total} ranks=${size}`).toEqual(expected);
            // Sums and histograms: a few hundred numbers a layer, however many slots there are.
            expect(Math.max(0, ...exchanged)).toBeLessThanOrEqual(6 * 260);
          }
        }
      }
    });
  }
});
