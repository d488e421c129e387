/**
 * What a method is: frozen data made of independent parts. The parts hold no tensors and no state; the cache's
 * pipeline (compress.ts) reads them and drives the ops.
 */
import type { Device } from "../device.js";
import type { Tensor } from "../tensor.js";
import type { RowRope } from "./row-rope.js";

/** Inputs that a part may need from the cache or the runtime. */
export type PartInput =
  | "keys"
  | "values"
  | "queries"
  | "attention sums"
  | "hidden states"
  | "pre-rope keys"
  | "positions";

/** How much stays, counted over everything a cache stores. Exactly one field is set. */
export type BudgetTarget =
  /** Fraction in (0, 1] of the bytes of the native GQA f16 cache of the same tokens. */
  | { readonly keep: number }
  /** Bytes of the whole cache. */
  | { readonly bytes: number }
  /** Slots per layer and KV head on average, protected ones included. */
  | { readonly tokens: number };

/** What a part was made with, by the names of its options: for reports and for the command line. */
export type PartOptions = Readonly<Record<string, unknown>>;

/**
 * A number that a scorer may give beside the scores, summed over the KV heads of a layer, so that ranks add theirs:
 *   entropy    - sum p ln p of the window's attention to the slots before the window (CAKE)
 *   variance   sum over query heads and slots of the unbiased variance over the window's queries (CAKE)
 */
export type Statistic = "entropy" | "variance";

/** Scores of one layer: a row per KV head, or `group` rows per KV head when each query head ranks for itself. */
export interface LayerScores {
  /** [rows, slots] f32; larger stays. */
  readonly scores: Tensor;
  /** Slots of each row. */
  readonly lengths: readonly number[];
  /** Rows that share a KV head. */
  readonly group: number;
  /** Those of `ScoreInput.statistics` that the scorer gives. */
  readonly statistics?: Readonly<Partial<Record<Statistic, number>>>;
}

/** Column statistics of a layer's window, [queryHeads, longest] f32; the receiver disposes. */
export interface WindowStatistics extends Disposable {
  readonly sum: Tensor;
  /** Only where asked for, like the two below. */
  readonly sumSq: Tensor | undefined;
  readonly max: Tensor | undefined;
  /** - sum p ln p over the slots before the window, per query head. */
  readonly entropy: Float32Array | undefined;
}

/** What {@link ScoreInput.window} computes. */
export interface WindowRequest {
  /** Last queries that are read; all of them must have been recorded. */
  readonly window: number;
  readonly norm?: "sum" | "window" | "causalCount";
  /** Outputs beside the sum. */
  readonly also?: readonly ("sumSq" | "max" | "entropy")[];
  /** Weight of each of the window's queries in `sum`; default: 1. */
  readonly queryWeights?: readonly number[];
}

/** Rows of one KV head as attention reads them, float32. */
export interface HeadRows {
  /** [slots, headDim], after RoPE however they are stored. */
  readonly keys: Float32Array;
  /** [slots, headDim]. */
  readonly values: Float32Array;
}

/** What a scorer sees of one layer. */
export interface ScoreInput {
  readonly device: Device;
  readonly layer: number;
  readonly layers: number;
  readonly kvHeads: number;
  /** KV heads that the ranks before this one hold. */
  readonly firstHead: number;
  /** Query heads per KV head. */
  readonly group: number;
  readonly headDim: number;
  /** Of the logits. */
  readonly scale: number;
  /** Tokens seen so far: the logical position that comes next. */
  readonly tokens: number;
  /** What RoPE turns the next token's query by: `tokens`, or with re-indexed positions the slots. */
  readonly nextPosition: number;
  /** undefined: keys and queries come turned, and how is not known. */
  readonly rope: RowRope | undefined;
  /** Slots of each KV head, and of the longest one. */
  readonly lengths: readonly number[];
  readonly longest: number;
  /** Protected first and last slots of a head; their scores do not matter. */
  readonly sinks: number;
  readonly recent: number;
  /** Statistics that the budget reads. */
  readonly statistics: readonly Statistic[];
  /** Queries at hand: those of the last so many tokens. */
  readonly recordedQueries: number;
  /** Attention of the recorded queries, over the slots. */
  readonly window: (request: WindowRequest) => Promise<WindowStatistics>;
  /** Norms and cosines of the stored rows, [kvHeads, longest] f32 each. */
  readonly keyStats: (
    names: readonly KeyStatistic[],
  ) => Promise<Record<KeyStatistic, Float32Array>>;
  /** Attention of all queries so far, where attend adds it up: [rows, longest] f32, strided; the caller disposes it. */
  readonly sums: () => Tensor<"f32">;
  /** Logical position of every slot, per KV head. */
  readonly positions: () => Promise<readonly Int32Array[]>;
  /** Stored rows of one KV head, decoded. */
  readonly rows: (head: number) => Promise<HeadRows>;
  /** The last recorded queries of one query head, [count, headDim] f32, oldest first, as they came: before RoPE if `rope` is there. */
  readonly queries: (head: number, count: number) => Promise<Float32Array>;
}

export type KeyStatistic = "kNorm" | "cosToMean" | "vNorm" | "vL1";

/** How good each slot is. */
export interface ScorePart {
  readonly id: string;
  /** What ranks; "position": nothing but age, which the cache can follow on its own with every append. */
  readonly source: "attention" | "sums" | "keys" | "position" | "random";
  readonly needs: readonly PartInput[];
  readonly options: PartOptions;
  /** Last queries that the cache records for it; these tokens are protected where `select.recent` is "window". */
  readonly window: number;
  /** Of the queries recorded it reads no more than this part of the tokens. */
  readonly windowFraction?: number;
  /** Sums of attention that attend adds up for it, per query head or summed over the group. */
  readonly sums: "none" | "query-head" | "kv-head";
  /** Ranks the slots of a layer; the caller disposes the scores. */
  readonly rank: (input: ScoreInput) => Promise<LayerScores>;
}

/** What a budget knows of the cache when it plans. */
export interface BudgetShape {
  readonly layers: number;
  /** Slots per head that are ranked: neither sinks nor recent. */
  readonly context: number;
  /** Slots per head that stay whatever the budget: sinks and recent. */
  readonly guarded: number;
}

/** Ranked slots that each row of a layer keeps: one number for all rows, or one for each. */
export type LayerPlan = number | readonly number[];

/** A budget of the shape alone. */
export interface ShapeBudget {
  readonly id: string;
  readonly kind: "shape";
  readonly needs: readonly PartInput[];
  readonly options: PartOptions;
  /**
   * Splits `total` ranked slots (summed over layers, per row) over the layers.
   * The result has `shape.layers` integers in [0, shape.context] that sum to min(total, layers * context).
   */
  readonly plan: (total: number, shape: BudgetShape) => number[];
}

/** What a budget may read of the prompt. */
export interface BudgetEvidence extends BudgetShape {
  /** Layers whose scores are in: all, or in a cascade those up to the present one. */
  readonly seen: number;
  /** Score rows of a layer, over all ranks; a row is a KV head, or a query head where each ranks for itself. */
  readonly rows: number;
  /** Protected first slots of a head. */
  readonly sinks: number;
  /** Scores of the ranked slots of a seen layer, slots ascending, one array for each row of this rank. */
  readonly scores: (layer: number) => Promise<readonly Float32Array[]>;
  /** The same of all slots; those of protected recent slots are 0 where the scorer pools. */
  readonly wholeScores: (layer: number) => Promise<readonly Float32Array[]>;
  /** A statistic of a seen layer, summed over heads and ranks. */
  readonly statistic: (layer: number, name: Statistic) => number;
  /** Mean cosine of a layer's input and the same after its attention, as the runtime observed them. */
  readonly hiddenCosine: (layer: number) => number;
  /** Sums numbers over the ranks that hold KV heads of this model; alone, they come back as they are. */
  readonly sumOverRanks: (values: Float64Array) => Promise<Float64Array>;
  /** This rank and how many there are: heads are split in their order. */
  readonly rank: number;
  readonly ranks: number;
}

/**
 * Ranked slots of each seen layer for a total (summed over all layers, per row). Sums of rows are exact: over all
 * layers and rows they come to min(total, what there is) * rows; in a cascade, to what the layers so far are given. A
 * total below what a budget must give is answered by the least that it can.
 */
export type BudgetPlanner = (total: number) => Promise<LayerPlan[]>;

/** A budget that follows from what the prompt showed. */
export interface EvidenceBudget {
  readonly id: string;
  readonly kind: "evidence";
  readonly needs: readonly PartInput[];
  readonly options: PartOptions;
  /** Statistics that the scorer has to give. */
  readonly statistics: readonly Statistic[];
  /** "target": splits what the method's target leaves; "own": finds its own size, and the method has no target. */
  readonly size: "target" | "own";
  /** Whether a layer's share only falls while further layers come in: such a budget may be applied in a cascade. */
  readonly cascades: boolean;
  /** Reads the evidence once; the planner is then asked for several totals. */
  readonly prepare: (evidence: BudgetEvidence) => Promise<BudgetPlanner>;
}

/** How many slots each layer and head keeps. */
export type BudgetPart = ShapeBudget | EvidenceBudget;

const kNoStatistics: readonly Statistic[] = Object.freeze([]);

/** Statistics that a budget reads. */
export function statisticsOf(budget: BudgetPart): readonly Statistic[] {
  return budget.kind === "evidence" ? budget.statistics : kNoStatistics;
}

/** The planner of either kind of budget. */
export async function preparePlanner(
  budget: BudgetPart,
  evidence: BudgetEvidence,
): Promise<BudgetPlanner> {
  if (budget.kind === "evidence") return await budget.prepare(evidence);
  return async (total) => budget.plan(total, evidence);
}

export interface SelectPart {
  readonly id: string;
  readonly needs: readonly PartInput[];
  /** First slots of a head that always stay. */
  readonly sinks: number;
  /**
   * Last slots that always stay; "window": those of the scorer's queries; "budget": all that the budget gives; share:
   * that part of what the budget gives, the rest going to the best of the others.
   */
  readonly recent: number | "window" | "budget" | { readonly share: number };
  /** Who sees a slot that only some query heads of the group selected. */
  readonly visibility: "group" | "head";
}

export interface CodebookCodec {
  readonly id: "codebook";
  readonly needs: readonly PartInput[];
  readonly thetaK: number;
  readonly thetaV: number;
  /** "auto": when nothing needs to go, the rest of the budget buys a higher similarity. */
  readonly theta: "fixed" | "auto";
  /** Rounds of spherical k-means. */
  readonly refine: number;
  /** Codewords per codebook at most; 0: as many as theta needs. */
  readonly codewords: number;
  /** Whether the newest `recent` slots stay raw. */
  readonly recentRaw: boolean;
  /** Decoded tokens join the codebook when so many lie behind the recent ones; 0: never. */
  readonly insertInterval: number;
}

export interface RawCodec {
  readonly id: "raw";
  readonly needs: readonly PartInput[];
}

export type CodecPart = RawCodec | CodebookCodec;

/**
 * When compression happens.
 *   "after-prefill"  at `compress()`
 *   "per-layer"      as the prompt leaves each layer (`layer.compress()`): never more than one layer is whole;
 *                    with a stepScore, every step from then on
 *   "every-step"     after the prompt, then after every pass of the model (`maintain()`; positional methods: with every append)
 *   { every: n }     the same when n slots more than the budget are there
 *   { overflow: n }  from the first token on: when a head exceeds the budget by more than n slots
 */
export type Schedule =
  | "after-prefill"
  | "per-layer"
  | "every-step"
  | { readonly every: number }
  | { readonly overflow: number };

export interface Method {
  /** Stable kebab-case name. */
  readonly id: string;
  readonly target: BudgetTarget | null;
  readonly score: ScorePart | null;
  /** Ranks at later compressions while decoding; null: `score` does, where the schedule has any. */
  readonly stepScore: ScorePart | null;
  readonly budget: BudgetPart | null;
  readonly select: SelectPart | null;
  readonly codec: CodecPart;
  readonly schedule: Schedule;
  /** Caches of fewer tokens are left as they are. */
  readonly minTokens: number;
  /** "original": RoPE by logical position; "reindexed": by slot index in the cache (StreamingLLM). */
  readonly positions: "original" | "reindexed";
}

/** Whether keys must be stored before RoPE for this method. */
export function needsPreRopeKeys(method: Method): boolean {
  return method.codec.id === "codebook" || method.positions === "reindexed";
}

/** Whether a method can do nothing without keys and queries before RoPE, however the cache stores the keys. */
export function needsRope(method: Method): boolean {
  const scorers = [method.score, method.stepScore];
  return (
    needsPreRopeKeys(method) || scorers.some((score) => score?.needs.includes("pre-rope keys"))
  );
}

/** Whether the cache follows the method on its own with every append: the same window of last slots in every layer. */
export function isWindowed(method: Method): boolean {
  return (
    method.schedule === "every-step" &&
    method.score?.source === "position" &&
    method.budget?.id === "uniform" &&
    method.select?.recent === "budget"
  );
}

/** Query rows that the cache records for a method's scorers. */
export function queriesOf({ score, stepScore }: Method): number {
  return Math.max(score?.window ?? 0, stepScore?.window ?? 0);
}

/** Sums of attention that a method's scorers read. */
export function sumsOf({ score, stepScore }: Method): ScorePart["sums"] {
  const both = [score?.sums ?? "none", stepScore?.sums ?? "none"];
  return both.find((sums) => sums !== "none") ?? "none";
}

/** Whether a method goes on compressing while decoding, by `maintain()`. */
export function isMaintained(method: Method): boolean {
  if (isWindowed(method)) return false;
  const { schedule, stepScore } = method;
  return schedule === "per-layer" ? stepScore !== null : schedule !== "after-prefill";
}

/** Queries that a scorer reads after so many tokens. */
export function windowOf(score: ScorePart | null, tokens: number): number {
  if (score === null) return 0;
  const { window, windowFraction = 1 } = score;
  return Math.min(window, Math.ceil(windowFraction * tokens));
}
