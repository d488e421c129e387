import type {
  LayerScores,
  ScoreInput,
  PartOptions,
  ScorePart,
  Statistic,
} from "../cache/method.js";
import { type ReduceOptions, reduceScores } from "../cache/reduce-scores.js";
import { argumentError } from "../errors.js";
import { Tensor } from "../tensor.js";

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
  /** "sum" of the window's probabilities (default), or the largest of them ("max"). */
  readonly statistic?: "sum" | "max";
  /** Weight of the variance over the window's queries, added to their mean (CAKE: 200). Default 0; then `norm` is "window". */
  readonly gamma?: number;
  /** Weight of the last query relative to the first, growing linearly in between (PyramidInfer: 1.2). Default 1. */
  readonly distanceWeight?: number;
  /** Read no more than this part of the tokens, in (0, 1] (PyramidInfer: 0.2). Default 1. */
  readonly windowFraction?: number;
  /** Scores times the L2 norm of the slot's value, or times the largest L1 norm of the head's values (LAVa). */
  readonly valueNorm?: "none" | "l2" | "l1-max";
}

/** Every option, checked. */
interface WindowScore extends ReduceOptions {
  readonly window: number;
  readonly norm: "sum" | "window" | "causalCount";
  readonly statistic: "sum" | "max";
  readonly gamma: number;
  readonly distanceWeight: number;
  readonly windowFraction: number;
  readonly valueNorm: "none" | "l2" | "l1-max";
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
  const { statistic = "sum", gamma = 0, distanceWeight = 1, windowFraction = 1 } = options;
  const { valueNorm = "none" } = options;
  if (statistic !== "sum" && statistic !== "max") {
    throw argumentError("observationWindow", '"sum" or "max"', "statistic", statistic);
  }
  if (!(gamma >= 0 && Number.isFinite(gamma))) {
    throw argumentError("observationWindow", "a finite number of 0 or more", "gamma", gamma);
  }
  if (gamma > 0 && (statistic !== "sum" || (options.norm ?? "window") !== "window")) {
    throw argumentError("observationWindow", 'norm "window" of the sum with gamma', "norm", norm);
  }
  if (!(distanceWeight > 0 && Number.isFinite(distanceWeight))) {
    throw argumentError(
      "observationWindow",
      "a finite number above 0",
      "distanceWeight",
      distanceWeight,
    );
  }
  if (!(windowFraction > 0 && windowFraction <= 1)) {
    throw argumentError(
      "observationWindow",
      "a number in (0, 1]",
      "windowFraction",
      windowFraction,
    );
  }
  if (!["none", "l2", "l1-max"].includes(valueNorm)) {
    throw argumentError("observationWindow", '"none", "l2" or "l1-max"', "valueNorm", valueNorm);
  }
  const score: WindowScore = Object.freeze({
    window,
    norm: gamma > 0 ? "window" : norm,
    pool:
      pool === null
        ? null
        : Object.freeze({
            kind: pool.kind,
            kernel: pool.kernel,
            divisor: pool.divisor ?? "kernel",
          }),
    group,
    scope,
    statistic,
    gamma,
    distanceWeight,
    windowFraction,
    valueNorm,
  });
  return Object.freeze({
    id: "observation-window",
    source: "attention",
    needs: Object.freeze(["keys", "queries"] as const),
    options: score as unknown as PartOptions,
    window,
    windowFraction,
    sums: "none",
    rank: (input) => rankByWindow(input, score),
  } satisfies ScorePart);
}

async function rankByWindow(input: ScoreInput, score: WindowScore): Promise<LayerScores> {
  const { norm, statistic, gamma, distanceWeight, windowFraction } = score;
  const window = Math.min(score.window, Math.ceil(windowFraction * input.tokens));
  const wantsVariance = input.statistics.includes("variance");
  const wantsSquares = gamma > 0 || wantsVariance;
  using seen = await input.window({
    window,
    norm,
    also: [
      ...(input.statistics.includes("entropy") ? (["entropy"] as const) : []),
      ...(wantsSquares ? (["sumSq"] as const) : []),
      ...(statistic === "max" ? (["max"] as const) : []),
    ],
    ...(distanceWeight === 1 ? {} : { queryWeights: linearWeights(window, distanceWeight) }),
  });
  const statistics: Partial<Record<Statistic, number>> = {};
  if (seen.entropy !== undefined) statistics.entropy = sumOf(seen.entropy);
  let ranked = statistic === "max" ? (seen.max as Tensor) : seen.sum;
  const variances =
    seen.sumSq === undefined ? undefined : await varianceOf(seen.sum, seen.sumSq, window, norm);
  if (wantsVariance && variances !== undefined) {
    statistics.variance = rankedSum(input, variances);
  }
  using mixed =
    gamma > 0 && variances !== undefined
      ? await meanAndVariance(seen.sum, variances, gamma)
      : undefined;
  if (mixed !== undefined) ranked = mixed;
  using weighted = await timesValues(input, ranked, score.valueNorm);
  const scores = await reduceScores(input, weighted ?? ranked, score);
  return { ...scores, statistics };
}

/** From 1 for the window's first query to `last` for its last. */
function linearWeights(window: number, last: number): number[] {
  return Array.from({ length: window }, (_, i) =>
    window === 1 ? last : 1 + ((last - 1) * i) / (window - 1),
  );
}

function sumOf(values: Float32Array): number {
  return values.reduce((sum, value) => sum + value, 0);
}

/** Unbiased variance over the window's queries, from the sums of probabilities and of their squares. */
async function varianceOf(
  sum: Tensor,
  sumSq: Tensor,
  window: number,
  norm: WindowScore["norm"],
): Promise<Float64Array> {
  const sums = (await sum.read()) as Float32Array;
  const squares = (await sumSq.read()) as Float32Array;
  const scale = norm === "window" ? window : 1;
  const values = new Float64Array(sums.length);
  for (let i = 0; i < values.length && window > 1; i++) {
    const total = (sums[i] as number) * scale;
    const square = (squares[i] as number) * scale;
    values[i] = Math.max(0, (square - (total * total) / window) / (window - 1));
  }
  return values;
}

/** Sum over query heads and the slots that are ranked. */
function rankedSum(input: ScoreInput, values: Float64Array): number {
  const { lengths, group, longest, sinks, recent } = input;
  let sum = 0;
  lengths.forEach((length, head) => {
    for (let row = head * group; row < (head + 1) * group; row++) {
      for (let slot = sinks; slot < length - recent; slot++) {
        sum += values[row * longest + slot] as number;
      }
    }
  });
  return sum;
}

/** mean + gamma * variance, rounded once to f32. */
async function meanAndVariance(
  mean: Tensor,
  variances: Float64Array,
  gamma: number,
): Promise<Tensor> {
  const values = (await mean.read()) as Float32Array;
  const mixed = values.map((value, i) => value + gamma * (variances[i] as number));
  return Tensor.from(mean.device, "f32", mean.shape, mixed);
}

/** Scores times what the values weigh; undefined: as they are. */
async function timesValues(
  input: ScoreInput,
  scores: Tensor,
  valueNorm: WindowScore["valueNorm"],
): Promise<Tensor | undefined> {
  if (valueNorm === "none") return undefined;
  const { group, longest, lengths } = input;
  const name = valueNorm === "l2" ? "vNorm" : "vL1";
  const { [name]: norms } = await input.keyStats([name]);
  const values = ((await scores.read()) as Float32Array).slice();
  lengths.forEach((length, head) => {
    const own = norms.subarray(head * longest, head * longest + length);
    const most = own.reduce((max, value) => Math.max(max, value), 0);
    for (let row = head * group; row < (head + 1) * group; row++) {
      for (let slot = 0; slot < length; slot++) {
        const factor = valueNorm === "l2" ? (own[slot] as number) : most;
        values[row * longest + slot] = (values[row * longest + slot] as number) * factor;
      }
    }
  });
  return Tensor.from(scores.device, "f32", scores.shape, values);
}
