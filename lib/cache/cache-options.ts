/** What a cache is made with, and whether it can be. */
import { argumentError, spindleError } from "../errors.js";
import { isMaintained, type Method, needsRope } from "./method.js";
import { PagePool } from "./page-pool.js";

/** RoPE of a model whose keys and queries come before rotation. */
export interface CacheRope {
  /** Base of the angles, > 1. */
  readonly theta: number;
  /** "norm": adjacent pairs (llama.cpp's llama models); "neox": half-split pairs (Hugging Face). */
  readonly style: "norm" | "neox";
  /** Leading dims that turn. Default headDim. */
  readonly nRot?: number;
  /** Frequency scaling, as `makeRopeTable` takes it. */
  readonly scaling?: object;
}

/** Options of a KVCache. */
export interface KVCacheOptions {
  readonly layers: number;
  readonly queryHeads: number;
  /** Divides queryHeads; at most 16 query heads per KV head. */
  readonly kvHeads: number;
  /** Multiple of 8, 8..512. */
  readonly headDim: number;
  /** Stored type of K and V. Default "f16". */
  readonly dtype?: "f32" | "f16" | "bf16";
  /** Given: keys and queries come before RoPE and the cache rotates them. Absent: they come rotated. */
  readonly rope?: CacheRope;
  /** Default: everything stays (full). */
  readonly method?: Method;
  /** Logit scale. Default 1 / sqrt(headDim). */
  readonly scale?: number;
  /** Memory to draw on; default: a pool of its own. */
  readonly pool?: PagePool;
  /** Slots of a page that takes appends, 1..65536. Default 64. */
  readonly pageSlots?: number;
  /** Store keys before RoPE although the method does not ask for it, for forks with methods that do. */
  readonly preRopeKeys?: boolean;
  /** Query rows recorded per layer for the scorer of a fork's method; default: what the own method needs. */
  readonly recordQueries?: number;
  /**
   * Sums of attention that attend adds up for the scorer of a fork's method, per query head or per KV head; default:
   * what the own method needs.
   */
  readonly accumulateScores?: "query-head" | "kv-head";
  /** The other caches that hold KV heads of the same sequence; default: this one holds all. */
  readonly ranks?: RankGroup;
}

/**
 * Tensor-parallel ranks: each holds some KV heads of every layer, in the order of the ranks. Budgets that look across
 * heads or layers exchange sums and histograms of a few hundred numbers, so that all ranks come to what one cache of
 * all heads would. Every rank holds equally many heads and calls `compress` and `maintain` alike. A target in bytes, or a
 * fraction of the native bytes, is over all ranks.
 */
export interface RankGroup {
  /** 0..size - 1. */
  readonly rank: number;
  readonly size: number;
  /** Element-wise sum over the ranks; every rank calls it equally often with arrays of one length. */
  readonly allReduce: (values: Float64Array) => Promise<Float64Array>;
}

/** Options of `KVCache.fork`. */
export interface ForkOptions {
  /** Method of the fork; default: the same. */
  readonly method?: Method;
  /** As for the cache itself. Default: as there for the same method, false for another one. */
  readonly preRopeKeys?: boolean;
}

/** What the native side does not check, or would name otherwise. */
export function checkOptions(options: KVCacheOptions): void {
  const op = "KVCache";
  if (typeof options !== "object" || options === null) {
    throw argumentError(op, "an object", "options", options);
  }
  const { queryHeads, kvHeads, scale, pool, method, rope, recordQueries = 0 } = options;
  const { accumulateScores, ranks } = options;
  if (!Number.isInteger(kvHeads) || kvHeads < 1) {
    throw argumentError(op, "a positive integer", "kvHeads", kvHeads);
  }
  if (!Number.isInteger(queryHeads) || queryHeads < 1 || queryHeads % kvHeads !== 0) {
    throw argumentError(
      op,
      `a positive multiple of kvHeads (${kvHeads})`,
      "queryHeads",
      queryHeads,
    );
  }
  if (queryHeads > 16 * kvHeads) {
    throw argumentError(
      op,
      `at most 16 query heads per KV head (${kvHeads})`,
      "queryHeads",
      queryHeads,
    );
  }
  if (scale !== undefined && !(Number.isFinite(scale) && scale > 0)) {
    throw argumentError(op, "a finite number above 0", "scale", scale);
  }
  if (!Number.isInteger(recordQueries) || recordQueries < 0 || recordQueries > 65536) {
    throw argumentError(op, "an integer in [0, 65536]", "recordQueries", recordQueries);
  }
  if (![undefined, "query-head", "kv-head"].includes(accumulateScores)) {
    throw argumentError(op, '"query-head" or "kv-head"', "accumulateScores", accumulateScores);
  }
  if (ranks !== undefined) checkRanks(op, ranks);
  if (rope !== undefined && (typeof rope !== "object" || rope === null)) {
    throw argumentError(op, "an object", "rope", rope);
  }
  if (pool !== undefined && !(pool instanceof PagePool)) {
    throw argumentError(op, "a PagePool", "pool", pool);
  }
  checkMethod(op, method);
}

function checkRanks(op: string, ranks: RankGroup): void {
  if (typeof ranks !== "object" || ranks === null || typeof ranks.allReduce !== "function") {
    throw argumentError(op, "an object with allReduce", "ranks", ranks);
  }
  const { rank, size } = ranks;
  if (!Number.isInteger(size) || size < 1) {
    throw argumentError(op, "a positive integer", "ranks.size", size);
  }
  if (!Number.isInteger(rank) || rank < 0 || rank >= size) {
    throw argumentError(op, `an integer in [0, ${size - 1}]`, "ranks.rank", rank);
  }
}

/** Methods are plain data: this tells one from anything else. */
export function checkMethod(op: string, method: Method | undefined): void {
  if (method === undefined) return;
  const isMethod = typeof method?.id === "string" && typeof method.codec?.id === "string";
  if (!isMethod) throw argumentError(op, "a method made by compose()", "method", method);
}

function partThatTurns({ codec, positions, score, stepScore }: Method): string {
  if (codec.id === "codebook") return "codec codebook";
  if (positions === "reindexed") return "positions reindexed";
  const scorer = [score, stepScore].find((each) => each?.needs.includes("pre-rope keys"));
  return `score ${scorer?.id}`;
}

/** Fails before any work when a part of the method needs what the cache is not given. */
function checkNeeds(method: Method, options: KVCacheOptions): void {
  if (options.rope !== undefined || !needsRope(method)) return;
  const part = partThatTurns(method);
  throw spindleError(
    "ERR_SPINDLEKV_MISSING_INPUT",
    "KVCache",
    `KVCache: expected keys before RoPE for ${part} of method ${method.id}, got a cache without rope`,
  );
}

/** Ranks exchange sums of evidence, never scores of slots: one ranking for all heads of a layer would need them. */
function checkScope({ id, score, stepScore }: Method, ranks: RankGroup | undefined): void {
  if (ranks === undefined || ranks.size === 1) return;
  for (const part of [score, stepScore]) {
    if (part?.options.scope !== "layer") continue;
    throw argumentError(
      "KVCache",
      `a method that ranks each KV head for itself with ${ranks.size} ranks ` +
        `(score ${part.id}: scope "kv-head" instead of "layer")`,
      "method",
      id,
    );
  }
}

/** A method that goes on compressing needs room beside what it protects. */
function checkSchedule(method: Method): void {
  const { target, select, score } = method;
  if (!isMaintained(method) || target === null || !("tokens" in target) || select === null) return;
  const last = select.recent === "window" ? (score?.window ?? 0) : select.recent;
  const guarded = select.sinks + (typeof last === "number" ? last : 0);
  if (target.tokens > guarded) return;
  throw argumentError(
    "KVCache",
    `more than the ${guarded} protected slots`,
    "target.tokens",
    target.tokens,
  );
}

/** Fails where a method asks for more than a cache with these options has. */
export function checkMethodFits(method: Method, options: KVCacheOptions): void {
  checkNeeds(method, options);
  checkScope(method, options.ranks);
  checkSchedule(method);
}
