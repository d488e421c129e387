// Evidence made up for budgets: random scores, one process or several ranks that exchange sums as real ones do.
import type {
  BudgetEvidence,
  BudgetPart,
  EvidenceBudget,
  LayerPlan,
  Statistic,
} from "../../lib/index.ts";
import { Prng } from "../harness/prng.ts";
import { allReduceOf } from "./ranks.ts";

export interface Evidence {
  readonly layers: number;
  /** KV heads over all ranks. */
  readonly heads: number;
  readonly context: number;
  readonly sinks: number;
  readonly guarded: number;
  /** Of all slots, [layers][heads][sinks + context + recent]. */
  readonly scores: readonly (readonly Float32Array[])[];
  readonly statistics: Readonly<Record<Statistic, readonly number[]>>;
  readonly cosines: readonly number[];
}

export interface EvidenceOptions {
  readonly layers?: number;
  readonly heads?: number;
  readonly context?: number;
  readonly sinks?: number;
  /** Scores are multiples of this: many are then equal. 0 (default): hardly any. */
  readonly step?: number;
}

/** Scores as attention makes them: a few large ones, most near 0, layers and heads of different spread. */
export function makeEvidence(seed: number, options: EvidenceOptions = {}): Evidence {
  const random = new Prng(seed);
  const {
    layers = random.integer(1, 9),
    heads = random.integer(1, 6),
    context = random.integer(0, 70),
    sinks = random.integer(0, 3),
    step = 0,
  } = options;
  const recent = random.integer(0, 5);
  const scores = Array.from({ length: layers }, () => {
    const sharpness = 0.3 + 4 * random.uniform();
    return Array.from({ length: heads }, () => {
      const size = sharpness * (0.5 + random.uniform());
      return Float32Array.from({ length: sinks + context + recent }, () => {
        const score = Math.exp(size * random.normal() - 3);
        return step === 0 ? score : step * Math.floor(score / step);
      });
    });
  });
  const positive = () => Array.from({ length: layers }, () => Math.exp(2 * random.normal()));
  return {
    layers,
    heads,
    context,
    sinks,
    guarded: sinks + recent,
    scores,
    statistics: { entropy: positive(), variance: positive() },
    cosines: Array.from({ length: layers }, () => 0.2 + 0.8 * random.uniform()),
  };
}

/** The scores that are ranked: neither of sinks nor of recent slots. */
export function rankedScores({ scores, sinks, context }: Evidence): Float32Array[][] {
  return scores.map((rows) => rows.map((row) => row.slice(sinks, sinks + context)));
}

/** What a budget sees of it on one rank. */
export function asSeen(
  evidence: Evidence,
  group: { readonly rank: number; readonly size: number },
  sumOverRanks: BudgetEvidence["sumOverRanks"],
  seen = evidence.layers,
): BudgetEvidence {
  const { layers, heads, context, sinks, guarded, scores, statistics, cosines } = evidence;
  const perRank = heads / group.size;
  const own = <T>(rows: readonly T[]) =>
    rows.slice(group.rank * perRank, (group.rank + 1) * perRank);
  const ranked = rankedScores(evidence);
  return {
    layers,
    context,
    guarded,
    seen,
    rows: heads,
    sinks,
    scores: async (layer) => own(ranked[layer]),
    wholeScores: async (layer) => own(scores[layer]),
    statistic: (layer, name) => statistics[name][layer],
    hiddenCosine: (layer) => cosines[layer],
    sumOverRanks,
    rank: group.rank,
    ranks: group.size,
  };
}

/** Plans of several totals, by one process that sees the first `seen` layers. */
export async function plansOf(
  budget: BudgetPart,
  evidence: Evidence,
  totals: readonly number[],
  seen = evidence.layers,
): Promise<LayerPlan[][]> {
  if (budget.kind === "shape") return totals.map((total) => budget.plan(total, evidence));
  const alone = asSeen(evidence, { rank: 0, size: 1 }, async (values) => values, seen);
  const planner = await budget.prepare(alone);
  const plans: LayerPlan[][] = [];
  for (const total of totals) plans.push(await planner(total));
  return plans;
}

export async function planOf(
  budget: BudgetPart,
  evidence: Evidence,
  total: number,
  seen = evidence.layers,
): Promise<LayerPlan[]> {
  return (await plansOf(budget, evidence, [total], seen))[0];
}

/** The plan that ranks reach together, and the lengths of the arrays that they exchanged. */
export async function planOverRanks(
  budget: EvidenceBudget,
  evidence: Evidence,
  size: number,
  total: number,
): Promise<{ plan: LayerPlan[]; exchanged: number[] }> {
  const group = allReduceOf(size);
  const plans = await Promise.all(
    Array.from({ length: size }, async (_, rank) => {
      const seen = asSeen(evidence, { rank, size }, (values) => group.allReduce(rank, values));
      return await (await budget.prepare(seen))(total);
    }),
  );
  const plan = plans[0].map((first, layer) =>
    typeof first === "number"
      ? sameOnAll(plans.map((own) => own[layer] as number))
      : plans.flatMap((own) => own[layer] as readonly number[]),
  );
  return { plan, exchanged: group.lengths };
}

function sameOnAll(numbers: readonly number[]): number {
  if (numbers.some((number) => number !== numbers[0])) {
    throw new Error(`ranks came to different budgets: ${numbers.join(" ")}`);
  }
  return numbers[0];
}

/** Slots over all layers and rows. */
export function slotsOf(plan: readonly LayerPlan[], heads: number): number {
  return plan.reduce<number>(
    (sum, k) => sum + (typeof k === "number" ? k * heads : k.reduce((a, b) => a + b, 0)),
    0,
  );
}

/** [layer][row]. */
export function perRow(plan: readonly LayerPlan[], heads: number): number[][] {
  return plan.map((k) => (typeof k === "number" ? new Array<number>(heads).fill(k) : [...k]));
}
