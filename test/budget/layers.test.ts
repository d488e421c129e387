// Budgets that share a total out over layers: their formulas, and what holds for every one of them.
import { describe, expect, it } from "vitest";
import {
  adaptiveHeads,
  type BudgetPart,
  cascade,
  cosineSchedule,
  entropyCascade,
  globalLayers,
  globalPrefix,
  profiled,
  pyramid,
  skipLayers,
  squeeze,
  uncertainty,
  uniform,
} from "../../lib/index.ts";
import { threeMeans } from "../../lib/budget/three-means.ts";
import { Prng } from "../harness/prng.ts";
import {
  cascadeBudgets,
  clusterCost,
  cosineBudgets,
  entropyBudgets,
  globalLayerBudgets,
  leastClusterCost,
  prefixBudgets,
  slotsOfPrefix,
  squeezeBudgets,
  uncertaintyBudgets,
} from "../oracle/allocators.ts";
import {
  type Evidence,
  type EvidenceOptions,
  makeEvidence,
  perRow,
  planOf,
  plansOf,
  rankedScores,
  slotsOf,
} from "./evidence.ts";

const kPrompts = 200;

/** Runs a budget on many prompts and totals against what the formula gives. */
async function expectFormula(
  make: (random: Prng) => {
    budget: BudgetPart;
    expected: (total: number, evidence: Evidence) => unknown;
  },
  options: EvidenceOptions = {},
  prompts = kPrompts,
): Promise<void> {
  for (let seed = 1; seed <= prompts; seed++) {
    const random = new Prng(seed);
    const evidence = makeEvidence(seed, options);
    const { layers, context } = evidence;
    const total = random.integer(0, layers * context + 5);
    const { budget, expected } = make(random);
    const id = `seed=${seed} L=${layers} context=${context} total=${total} ${JSON.stringify(budget.options)}`;
    expect(await planOf(budget, evidence, total), id).toEqual(expected(total, evidence));
  }
}

describe("a budget is that of its formula:", () => {
  it("cosineSchedule", () =>
    expectFormula((random) => {
      const decay = random.pick([0.9, 0.5, 1, 0.01]);
      const interval = random.integer(1, 4);
      return {
        budget: cosineSchedule({ decay, interval }),
        expected: (total, { layers, context }) =>
          cosineBudgets(total, layers, context, decay, interval),
      };
    }));

  it("squeeze", () =>
    expectFormula((random) => {
      const p = random.pick([0.35, 0.1, 1, 0.7]);
      return {
        budget: squeeze({ p }),
        expected: (total, { cosines, context }) => squeezeBudgets(total, cosines, context, p),
      };
    }));

  it("uncertainty", () =>
    expectFormula((random) => {
      const mass = random.pick([0.9, 0.5, 1, 0.05]);
      const bound = random.pick([0.2, 0, 1, 0.6]);
      return {
        budget: uncertainty({ mass, bound }),
        expected: (total, evidence) =>
          uncertaintyBudgets(total, rankedScores(evidence), evidence.context, mass, bound),
      };
    }));

  it("cascade", () =>
    expectFormula((random) => {
      const tau1 = random.pick([1, 1.6, 0.5]);
      const tau2 = random.pick([1, 0.4, 2.3]);
      return {
        budget: cascade({ tau1, tau2 }),
        expected: (total, { statistics, context }) =>
          cascadeBudgets(total, statistics.entropy, statistics.variance, context, tau1, tau2),
      };
    }));

  it("entropyCascade", () =>
    expectFormula(() => ({
      budget: entropyCascade(),
      expected: (total, evidence) =>
        entropyBudgets(total, rankedScores(evidence), evidence.context),
    })));

  it("globalPrefix", () =>
    expectFormula(
      () => ({
        budget: globalPrefix(),
        expected: (total, evidence) =>
          prefixBudgets(total, rankedScores(evidence), evidence.context),
      }),
      {},
      30,
    ));

  for (const step of [0, 0.05]) {
    it(`globalLayers, ${step === 0 ? "hardly any" : "many"} equal scores`, () =>
      expectFormula(
        (random) => {
          const most = random.pick([10, 1, 1.5, 3]);
          return {
            budget: globalLayers({ most }),
            expected: (total, evidence) =>
              globalLayerBudgets(total, rankedScores(evidence), evidence.context, most),
          };
        },
        { step },
      ));
  }

  it("skipLayers leaves layers whole and the others to the budget within", () =>
    expectFormula(
      (random) => {
        const skip = [random.integer(0, 3), 4];
        return {
          budget: skipLayers({ budget: uncertainty(), skip }),
          expected: (total, evidence) => {
            const { context, layers } = evidence;
            const others = rankedScores(evidence).filter((_, layer) => !skip.includes(layer));
            const rest = Math.max(0, total - 2 * context);
            const shared = uncertaintyBudgets(rest, others, context, 0.9, 0.2);
            return Array.from({ length: layers }, (_, layer) =>
              skip.includes(layer) ? context : shared.shift(),
            );
          },
        };
      },
      { layers: 7 },
    ));

  it('skipLayers "sixteenth" is the first 2 of 32 layers', async () => {
    const budget = skipLayers({ budget: uniform() });
    for (const [layers, whole] of [
      [32, 2],
      [33, 2],
      [15, 0],
    ]) {
      const evidence = makeEvidence(3, { layers, context: 50 });
      const plan = await planOf(budget, evidence, layers * 20);
      expect(plan.filter((k) => k === 50)).toHaveLength(whole);
      expect(slotsOf(plan, 1)).toBe(layers * 20);
    }
  });
});

describe("three-means", () => {
  const random = new Prng(9);

  it("costs no more than the best of all 3^n splits", () => {
    for (let i = 0; i < 60; i++) {
      const values = Array.from({ length: random.integer(3, 8) }, () => random.uniform());
      if (i % 3 === 0) values[1] = values[0];
      if (new Set(values).size < 3) continue;
      const groups = threeMeans(values);
      expect(clusterCost(values, groups)).toBeCloseTo(leastClusterCost(values), 12);
      // Groups ascend with the values, and equal values are together.
      for (const [a, group] of groups.entries()) {
        for (const [b, other] of groups.entries()) {
          if (values[a] < values[b]) expect(group).toBeLessThanOrEqual(other);
          if (values[a] === values[b]) expect(group).toBe(other);
        }
      }
    }
  });

  it("puts the largest values in group 2 when there are fewer than three different ones", () => {
    expect(threeMeans([0.7])).toEqual([2]);
    expect(threeMeans([0.7, 0.7, 0.7])).toEqual([2, 2, 2]);
    expect(threeMeans([0.7, 0.2, 0.7, 0.2])).toEqual([2, 0, 2, 0]);
  });

  it("parts 0.1 0.11 0.5 0.52 0.9 as the eye does", () => {
    expect(threeMeans([0.9, 0.1, 0.52, 0.11, 0.5])).toEqual([2, 0, 1, 0, 1]);
  });
});

/** Every budget that splits a target, with the layers that it keeps whole come what may. */
function everyBudget(evidence: Evidence): Record<string, BudgetPart> {
  const random = new Prng(evidence.layers + 100 * evidence.heads);
  const importance = Array.from({ length: evidence.layers }, () =>
    Array.from({ length: evidence.heads }, () => random.uniform()),
  );
  return {
    uniform: uniform(),
    pyramid: pyramid(),
    cosineSchedule: cosineSchedule({ decay: 0.6 }),
    squeeze: squeeze(),
    uncertainty: uncertainty(),
    cascade: cascade(),
    entropyCascade: entropyCascade(),
    globalPrefix: globalPrefix(),
    globalLayers: globalLayers({ most: 2 }),
    "adaptiveHeads uniform": adaptiveHeads({ layers: uniform() }),
    "adaptiveHeads pyramid": adaptiveHeads({ layers: pyramid(), floor: 0.5 }),
    "adaptiveHeads entropy": adaptiveHeads({ layers: entropyCascade(), floor: 0 }),
    profiled: profiled({ model: "made up", importance, tau: 1.5, least: 0.2 }),
  };
}

/** Slots that a row may lose to rounding when the total grows by one. */
function slackOf(name: string, heads: number): number {
  if (name === "uniform" || name === "adaptiveHeads uniform") return 0;
  // A layer that loses one a head may take them all from one head.
  return name.startsWith("adaptiveHeads") ? 1 + heads : 1;
}

describe("every budget", () => {
  it("gives exactly the total, never more than there is, never less than nothing", async () => {
    for (let seed = 1; seed <= 60; seed++) {
      const evidence = makeEvidence(seed, seed % 4 === 0 ? { step: 0.02 } : {});
      const { layers, heads, context } = evidence;
      const totals = [0, 1, layers, Math.floor((layers * context) / 3), layers * context, 10 ** 6];
      for (const [name, budget] of Object.entries(everyBudget(evidence))) {
        const plans = await plansOf(budget, evidence, totals);
        plans.forEach((plan, i) => {
          const id = `${name} seed=${seed} L=${layers} H=${heads} context=${context} total=${totals[i]}`;
          expect(plan, id).toHaveLength(layers);
          expect(slotsOf(plan, heads), id).toBe(Math.min(totals[i], layers * context) * heads);
          const isWhole = (k: number) => Number.isInteger(k) && k >= 0 && k <= context;
          expect(perRow(plan, heads).flat().every(isWhole), id).toBe(true);
        });
      }
    }
  });

  it("grows with the total: no row loses more than what rounding moves", async () => {
    for (let seed = 1; seed <= 6; seed++) {
      const evidence = makeEvidence(seed, { context: 40, layers: 5, heads: 3 });
      const totals = Array.from({ length: 201 }, (_, i) => i);
      const budgets = Object.entries(everyBudget(evidence));
      for (const [name, budget] of budgets) {
        // Slopes that depend on the total: a deep layer may lose to a shallow one.
        if (name.includes("pyramid")) continue;
        const plans = await plansOf(budget, evidence, totals);
        const rows = plans.map((plan) => perRow(plan, 3).flat());
        for (let i = 1; i < rows.length; i++) {
          const loss = Math.max(...rows[i].map((k, row) => rows[i - 1][row] - k));
          expect(loss, `${name} seed=${seed} total=${i}`).toBeLessThanOrEqual(slackOf(name, 3));
        }
      }
    }
  });

  it("that cascades only takes from layers as later ones come in, and ends at the plan of all", async () => {
    for (let seed = 1; seed <= 80; seed++) {
      const evidence = makeEvidence(seed, {
        layers: 6,
        context: 60,
        ...(seed % 4 === 0 ? { step: 0.02 } : {}),
      });
      const { heads } = evidence;
      const total = new Prng(seed).integer(0, 6 * 60);
      const cascading = Object.entries({
        ...everyBudget(evidence),
        "globalLayers most 1.2": globalLayers({ most: 1.2 }),
        "globalLayers most 10": globalLayers(),
      }).filter(([, budget]) => budget.kind === "evidence" && budget.cascades);
      expect(cascading.length).toBe(8);
      for (const [name, budget] of cascading) {
        let before: number[][] = [];
        for (let seen = 1; seen <= 6; seen++) {
          const plan = perRow(await planOf(budget, evidence, total, seen), heads).slice(0, seen);
          before.forEach((rows, layer) => {
            const gain = Math.max(...rows.map((k, row) => plan[layer][row] - k));
            const id = `${name} seed=${seed} total=${total} seen=${seen} layer=${layer}`;
            expect(gain, id).toBeLessThanOrEqual(0);
          });
          before = plan;
        }
      }
    }
  });
});

describe("globalPrefix", () => {
  it("is within one step of the curves of the p that the formula asks for", async () => {
    const evidence = makeEvidence(17, { layers: 4, heads: 3, context: 400 });
    const scores = rankedScores(evidence);
    for (const p of [0.2, 0.5, 0.8, 0.95]) {
      const wanted = scores.map((rows) => slotsOfPrefix(rows, p));
      const total = Math.round(wanted.reduce((a, b) => a + b, 0));
      const plan = (await planOf(globalPrefix(), evidence, total)) as number[];
      wanted.forEach((slots, layer) => {
        const step = slotsOfPrefix(scores[layer], Math.min(1, p + 2 / 256)) - slots;
        expect(Math.abs(plan[layer] - slots)).toBeLessThanOrEqual(2 + 2 * step);
      });
    }
  });
});

describe("options of budgets", () => {
  const wrong: [string, string, () => unknown][] = [
    ["cosineSchedule", "decay", () => cosineSchedule({ decay: 0 })],
    ["cosineSchedule", "interval", () => cosineSchedule({ interval: 1.5 })],
    ["squeeze", "p", () => squeeze({ p: 0 })],
    ["uncertainty", "mass", () => uncertainty({ mass: 1.1 })],
    ["uncertainty", "bound", () => uncertainty({ bound: -0.1 })],
    ["cascade", "tau1", () => cascade({ tau1: 0 })],
    ["cascade", "tau2", () => cascade({ tau2: Number.NaN })],
    ["globalLayers", "most", () => globalLayers({ most: 0.5 })],
    ["skipLayers", "skip", () => skipLayers({ budget: uniform(), skip: [1, 1] })],
    ["skipLayers", "skip", () => skipLayers({ budget: uniform(), skip: [-1] })],
  ];
  it("are checked by name", () => {
    for (const [op, param, make] of wrong) {
      expect(make, `${op} ${param}`).toThrowError(
        expect.objectContaining({ code: "ERR_SPINDLEKV_ARGUMENT", op, param }),
      );
    }
  });
});
