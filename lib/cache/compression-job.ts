/** What the steps of one compression share. */
import { argumentError, spindleError } from "../errors.js";
import type { KVCache } from "./kv-cache.js";
import { type Method, type ScorePart, type SelectPart, windowOf } from "./method.js";
import type { StoreLayerInfo } from "./native-store.js";

export interface CompressionJob {
  readonly cache: KVCache;
  readonly method: Method;
  /** The scorer of this compression. */
  readonly score: ScorePart | null;
  readonly select: SelectPart;
  readonly signal: AbortSignal | undefined;
  readonly infos: readonly StoreLayerInfo[];
  /** Layers that take part: all, or in a cascade the first so many. */
  readonly layers: number;
  /** Protected slots of a head: the first and, unless the budget says so itself, the last ones. */
  readonly sinks: number;
  readonly recent: number;
  /** Ranked slots of the longest head. */
  readonly context: number;
  /** Whether a head may still hold up to a page of dropped slots, so that the others stay where they are. */
  readonly leavesGaps: boolean;
}

/**
 * Looks at the cache and finds what is protected.
 *
 * @param layers the first so many take part
 * @throws {SpindleKVError} ERR_SPINDLEKV_ARGUMENT when the layers have not seen equally many tokens
 */
export function prepareJob(
  cache: KVCache,
  select: SelectPart,
  score: ScorePart | null,
  layers: number,
  signal: AbortSignal | undefined,
): CompressionJob {
  const infos = cache.describe();
  const positions = infos.slice(0, layers).map((info) => info.position);
  if (positions.some((position) => position !== positions[0])) {
    throw argumentError("compress", "equally many tokens in every layer", "cache", positions);
  }
  const slots = infos.slice(0, layers).flatMap((info) => info.heads.map((head) => head.slots));
  const longest = Math.max(...slots);
  const window = windowOf(score, infos[0]?.position ?? 0);
  // What the budget itself gives to the last slots is not protected from it.
  const last = typeof select.recent === "number" ? select.recent : 0;
  const recent = Math.min(longest, select.recent === "window" ? window : last);
  const sinks = Math.min(select.sinks, longest - recent);
  const context = longest - sinks - recent;
  const { method } = cache;
  return {
    cache,
    method,
    score,
    select,
    signal,
    infos,
    layers,
    sinks,
    recent,
    context,
    leavesGaps: false,
  };
}

export function throwIfAborted(signal: AbortSignal | undefined): void {
  if (signal?.aborted !== true) return;
  throw spindleError(
    "ERR_SPINDLEKV_ABORTED",
    "compress",
    "compress: expected to finish, got aborted",
    signal.reason,
  );
}
