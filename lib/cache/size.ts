/** From a method's target to the total of ranked slots, and to the thetas of its codebooks. */
import { argumentError } from "../errors.js";
import { kEnough, searchBudget } from "./budget-search.js";
import { layerPlans } from "./commit-plan.js";
import { type CompressionJob, throwIfAborted } from "./compression-job.js";
import type { LayerCovers } from "./layer-covers.js";
import { LayerRows } from "./layer-rows.js";
import type {
  BudgetPart,
  BudgetPlanner,
  BudgetTarget,
  CodebookCodec,
  LayerPlan,
  LayerScores,
} from "./method.js";
import { storeAddon } from "./native-store.js";
import { meanPlan, rankedTotal, sumOneOverRanks, sumOverRanks } from "./plan.js";
import { plannedBytes, type Thetas } from "./rewrite.js";

/** What a target comes to. */
export interface Size {
  /** Ranked slots, summed over layers, per row. */
  readonly total: number;
  readonly thetas: Thetas | null;
  /** Budgets tried. */
  readonly trials: number;
}

/** A target in bytes; null where it is in tokens or there is none. */
export function targetBytes(target: BudgetTarget | null, nativeBytes: number): number | null {
  if (target === null || "tokens" in target) return null;
  return "bytes" in target ? target.bytes : Math.floor(target.keep * nativeBytes);
}

/**
 * @param nativeBytes of the tokens in a native f16 cache, over all ranks
 * @param covers gets those of the layers' codebooks, where trials find them
 * @throws {SpindleKVError} ERR_SPINDLEKV_ARGUMENT when the target is below what the protected slots take
 */
export async function sizeOf(
  job: CompressionJob,
  budget: BudgetPart,
  scores: readonly LayerScores[],
  planner: BudgetPlanner,
  nativeBytes: number,
  covers: LayerCovers,
): Promise<Size> {
  const { method } = job;
  const { codec, target } = method;
  const thetas = codec.id === "codebook" ? { k: codec.thetaK, v: codec.thetaV } : null;
  if (target === null || (budget.kind === "evidence" && budget.size === "own")) {
    return { total: Number.POSITIVE_INFINITY, thetas, trials: 0 };
  }
  // In tokens the sum is exact by construction, whatever it takes in bytes.
  if ("tokens" in target) return { total: rankedTotal(job, target.tokens), thetas, trials: 0 };
  const goal = targetBytes(target, nativeBytes) as number;
  if (method.schedule === "per-layer") {
    return { total: await cascadeTotal(job, scores, goal, nativeBytes), thetas, trials: 0 };
  }
  return await searchSize(job, budget, scores, planner, goal, nativeBytes, thetas, covers);
}

const sumOf = (values: Float64Array) => values.reduce((sum, value) => sum + value, 0);

async function searchSize(
  job: CompressionJob,
  budget: BudgetPart,
  scores: readonly LayerScores[],
  planner: BudgetPlanner,
  goal: number,
  nativeBytes: number,
  thetas: Thetas | null,
  covers: LayerCovers,
): Promise<Size> {
  const { codec } = job.method;
  using rows = new LayerRows(job);
  const layerBytes = async (plan: readonly LayerPlan[], at: Thetas | null) => {
    throwIfAborted(job.signal);
    const own = await plannedBytes(job, layerPlans(scores, plan), at, { rows, covers });
    const bytes = await sumOverRanks(job.cache, Float64Array.from(own));
    covers.settle(sumOf(bytes) <= goal);
    return bytes;
  };
  const bytesOf = async (plan: readonly LayerPlan[], at: Thetas | null): Promise<number> =>
    sumOf(await layerBytes(plan, at));
  const most = job.layers * job.context;
  const isCodebook = codec.id === "codebook";
  // Layer by layer where planning costs next to nothing.
  const isByLayer = budget.kind === "shape";
  const found = await searchBudget(goal, most, {
    bytes: async (total) => {
      const plan = await planner(total);
      return isByLayer ? layerBytes(plan, thetas) : [await bytesOf(plan, thetas)];
    },
    slots: async (total) => (isByLayer ? meanPlan(await planner(total)) : [total]),
    // Codebooks are found in the time of the square of their slots: from few to many, from what would fit without.
    ...(isCodebook && { first: Math.floor((most * goal) / nativeBytes) }),
  });
  if (found === null) {
    throw belowProtected(await bytesOf(await planner(0), thetas), nativeBytes, goal);
  }
  const { total } = found.trial;
  const trials = found.evaluations;
  if (!isCodebook || codec.theta !== "auto" || total < most) {
    return { total, thetas, trials };
  }
  const plan = await planner(total);
  const raised = await raiseThetas(codec, found.trial.bytes, goal, (at) => bytesOf(plan, at));
  return { total, thetas: raised.thetas, trials: trials + raised.trials };
}

function belowProtected(least: number, nativeBytes: number, goal: number): Error {
  return argumentError(
    "compress",
    `at least the ${least} bytes of the protected slots (keep ${(least / nativeBytes).toFixed(4)})`,
    "target",
    goal,
  );
}

/**
 * Spends what is left of the budget on higher thetas, both raised by the same share of their distance to 1.
 *
 * @param bytes with the thetas as they are
 */
async function raiseThetas(
  codec: CodebookCodec,
  bytes: number,
  goal: number,
  bytesOf: (thetas: Thetas) => Promise<number>,
): Promise<{ thetas: Thetas; trials: number }> {
  const at = (share: number) => ({
    k: 1 - (1 - codec.thetaK) * (1 - share),
    v: 1 - (1 - codec.thetaV) * (1 - share),
  });
  const rounds = 6; // leaves 1/64 of the way unspent
  let low = 0;
  let high = 1;
  let used = bytes;
  let trials = 0;
  while (trials < rounds && used < kEnough * goal) {
    const middle = (low + high) / 2;
    const tried = await bytesOf(at(middle));
    trials += 1;
    if (tried <= goal) [low, used] = [middle, tried];
    else high = middle;
  }
  return { thetas: at(low), trials };
}

/**
 * The total of a method that compresses layer by layer: it must be known before the later layers are there, so it
 * follows from the bytes of a raw slot alone, with the most that page rounding can take set aside.
 *
 * @param nativeBytes of the layers that are in, over all ranks
 */
export async function cascadeTotal(
  job: CompressionJob,
  scores: readonly LayerScores[],
  goal: number,
  nativeBytes: number,
): Promise<number> {
  const { cache } = job;
  const { layers, kvHeads } = cache.options;
  const hasMask = scores.some(({ group }) => group > 1) && job.select.visibility === "head";
  const bytesOf = (rawSlots: number) =>
    storeAddon().storePlannedBytes(cache, {
      slots: 0,
      kCodewords: 0,
      vCodewords: 0,
      hasMask,
      rawSlots,
    });
  const many = 65_536; // a multiple of every alignment: page rounding takes nothing of it
  const slot = bytesOf(many) / many;
  let rounding = 0;
  for (let slots = 1; slots <= 64; slots++) {
    rounding = Math.max(rounding, bytesOf(slots) - slots * slot);
  }
  const perLayer = await sumOneOverRanks(cache, kvHeads);
  const heads = layers * perLayer;
  const slots = Math.floor((goal - heads * rounding) / slot);
  const guarded = heads * (job.sinks + job.recent);
  if (slots < guarded) throw belowProtected(Math.ceil(guarded * slot), nativeBytes, goal);
  const perRow = Math.floor((slots - guarded) / perLayer);
  return Math.min(perRow, layers * job.context);
}
