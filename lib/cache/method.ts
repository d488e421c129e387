/**
 * What a method is: plain frozen data made of independent parts. The parts hold no tensors; the cache's
 * pipeline (compress.ts) reads them and drives the ops.
 */

/** Inputs that a part may need from the cache or the runtime. */
export type PartInput = "keys" | "values" | "queries" | "pre-rope keys" | "positions";

/** How much stays, counted over everything a cache stores. Exactly one field is set. */
export type BudgetTarget =
  /** Fraction in (0, 1] of the bytes of the native GQA f16 cache of the same tokens. */
  | { readonly keep: number }
  /** Bytes of the whole cache. */
  | { readonly bytes: number }
  /** Slots per layer and KV head on average, protected ones included. */
  | { readonly tokens: number };

export interface AttentionScore {
  readonly id: string;
  readonly source: "attention";
  readonly needs: readonly PartInput[];
  /** Last queries whose attention is read; these tokens are protected as well. */
  readonly window: number;
  readonly norm: "sum" | "window" | "causalCount";
  readonly pool: {
    readonly kind: "mean" | "max";
    readonly kernel: number;
    readonly divisor: "kernel" | "valid";
  } | null;
  /** How the query heads of a KV head share one ranking; "unfold": each ranks for itself, the union is stored. */
  readonly group: "unfold" | "mean" | "max" | "sum";
}

export interface PositionScore {
  readonly id: string;
  readonly source: "position";
  readonly needs: readonly PartInput[];
}

export type ScorePart = AttentionScore | PositionScore;

/** What a budget knows when it plans. */
export interface BudgetShape {
  readonly layers: number;
  /** Slots per head that are ranked: neither sinks nor recent. */
  readonly context: number;
  /** Slots per head that stay whatever the budget: sinks and recent. */
  readonly guarded: number;
}

export interface BudgetPart {
  readonly id: string;
  readonly needs: readonly PartInput[];
  /**
   * Splits `total` ranked slots (summed over layers, per KV head) over the layers.
   * The result has `shape.layers` integers in [0, shape.context] that sum to min(total, layers * context).
   */
  readonly plan: (total: number, shape: BudgetShape) => number[];
}

export interface SelectPart {
  readonly id: string;
  readonly needs: readonly PartInput[];
  /** First slots of a head that always stay. */
  readonly sinks: number;
  /** Last slots that always stay; "window": those of the scorer's queries; "budget": all that the budget gives. */
  readonly recent: number | "window" | "budget";
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

/** When compression happens: at `compress()` only, or also with every append (positional methods). */
export type Schedule = "after-prefill" | "every-step";

export interface Method {
  /** Stable kebab-case name. */
  readonly id: string;
  readonly target: BudgetTarget | null;
  readonly score: ScorePart | null;
  readonly budget: BudgetPart | null;
  readonly select: SelectPart | null;
  readonly codec: CodecPart;
  readonly schedule: Schedule;
  /** "original": RoPE by logical position; "reindexed": by slot index in the cache (StreamingLLM). */
  readonly positions: "original" | "reindexed";
}

/** Whether keys must be stored before RoPE for this method. */
export function needsPreRopeKeys(method: Method): boolean {
  return method.codec.id === "codebook" || method.positions === "reindexed";
}
