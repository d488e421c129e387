import type {
  LayerScores,
  ScoreInput,
  ScorePart,
  Statistic,
  WindowRequest,
} from "../cache/method.js";
import { type ReduceOptions, reduceScores } from "../cache/reduce-scores.js";
import { argumentError } from "../errors.js";

/** Options of {@link observationWindow}. */
export interface ObservationWindowOptions {
  /** Last queries that are read, 1..1024. Default 32. */
  readonly window?: number;
  /** Pooling over neighbouring slots; null: none. Default: max over 7 (SnapKV's LongBench setting). */
  readonly pool?: {
    readonly kind: "mean" | "max";
    /** Odd number of slots, 1..1023. */
    readonly kernel: number;
    /** What a mean is divided by at the edges: the kernel (zeros counted) or the slots inside. Default "kernel". */
    readonly divisor?: "kernel" | "valid";
  } | null;
  /** "sum" over the window (SnapKV), its mean, or the sum over the count of all queries that can see the slot. */
  readonly norm?: "sum" | "window" | "causalCount";
  /** Query heads of a KV head: one ranking by their mean, max or sum, or one each ("unfold"). Default "mean". */
  readonly group?: "unfold" | "mean" | "max" | "sum";
  /** "layer": one ranking for all heads of a layer, by the mean over its query heads. Default "kv-head". */
  readonly scope?: "kv-head" | "layer";
}

/**
 * Ranks a slot by the attention that the last queries of the prompt pay to it.
 *
 *   s[h, k] = norm( sum over the last `window` queries q of softmax(q K^T / sqrt(d))[h, q, k] )
 *   then pooled along k, then reduced over the query heads of a group.
 *
 * @source SnapKV, arXiv 2404.14469, section 4; SpindleKV, arXiv 2507.06517, eq. 2 (norm "causalCount" is its
 * printed divisor n - k, which favours recent slots).
 *
 * Differs from the papers: group "mean" stores K and V per KV head; the reference code of SnapKV repeats them
 * per query head.
 *
 * Cost: two passes over the keys with `window` queries. Not when the question follows after compression and
 * the window's queries do not ask it.
 *
 * @throws {SpindleKVError} ERR_SPINDLEKV_ARGUMENT when an option is out of range
 */
export function observationWindow(options: ObservationWindowOptions = {}): ScorePart {
  const window = options.window ?? 32;
  if (!Number.isInteger(window) || window < 1 || window > 1024) {
    throw argumentError("observationWindow", "an integer in [1, 1024]", "window", window);
  }
  const pool = options.pool === undefined ? { kind: "max" as const, kernel: 7 } : options.pool;
  if (pool !== null) {
    const { kind, kernel } = pool;
    if (!Number.isInteger(kernel) || kernel < 1 || kernel > 1023 || kernel % 2 === 0) {
      throw argumentError(
        "observationWindow",
        "an odd integer in [1, 1023]",
        "pool.kernel",
        kernel,
      );
    }
    if (kind !== "mean" && kind !== "max") {
      throw argumentError("observationWindow", '"mean" or "max"', "pool.kind", kind);
    }
    const divisor = pool.divisor ?? "kernel";
    if (divisor !== "kernel" && divisor !== "valid") {
      throw argumentError("observationWindow", '"kernel" or "valid"', "pool.divisor", divisor);
    }
  }
  const group = options.group ?? "mean";
  if (!["unfold", "mean", "max", "sum"].includes(group)) {
    throw argumentError("observationWindow", '"unfold", "mean", "max" or "sum"', "group", group);
  }
  const norm = options.norm ?? "sum";
  if (!["sum", "window", "causalCount"].includes(norm)) {
    throw argumentError("observationWindow", '"sum", "window" or "causalCount"', "norm", norm);
  }
  const scope = options.scope ?? "kv-head";
  if (scope !== "kv-head" && scope !== "layer") {
    throw argumentError("observationWindow", '"kv-head" or "layer"', "scope", scope);
  }
  const pooling =
    pool === null
      ? null
      : Object.freeze({ kind: pool.kind, kernel: pool.kernel, divisor: pool.divisor ?? "kernel" });
  return Object.freeze({
    id: "observation-window",
    source: "attention",
    needs: Object.freeze(["keys", "queries"] as const),
    options: Object.freeze({ window, norm, pool: pooling, group, scope }),
    window,
    sums: "none",
    rank: (input) => rankByWindow(input, { window, norm, pool: pooling, group, scope }),
  } satisfies ScorePart);
}

async function rankByWindow(
  input: ScoreInput,
  { window, norm, ...reduction }: WindowRequest & ReduceOptions,
): Promise<LayerScores> {
  const wanted = input.statistics;
  using seen = await input.window({
    window,
    ...(norm === undefined ? {} : { norm }),
    also: [
      ...(wanted.includes("entropy") ? (["entropy"] as const) : []),
      ...(wanted.includes("variance") ? (["sumSq"] as const) : []),
    ],
  });
  const scores = await reduceScores(input, seen.sum, reduction);
  const statistics: Partial<Record<Statistic, number>> = {};
  if (seen.entropy !== undefined) statistics.entropy = sumOf(seen.entropy);
  return { ...scores, statistics };
}

function sumOf(values: Float32Array): number {
  return values.reduce((sum, value) => sum + value, 0);
}
