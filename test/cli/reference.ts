// The methods in float64 with plain loops over a dump: which slots stay, and what attention over the stored slots
// gives. Formulas: SnapKV (arXiv 2404.14469) section 4, PyramidKV (2406.02069) section 4.1, SpindleKV (2507.06517)
// eq. 2, 5 and 6, StreamingLLM (2309.17453) section 3.2.
import { type DumpValues, turnRow } from "./support.ts";

export interface Ranking {
  readonly window: number;
  readonly norm: "sum" | "window" | "causalCount";
  readonly pool: {
    readonly kind: "mean" | "max";
    readonly kernel: number;
    readonly divisor?: "kernel" | "valid";
  } | null;
  readonly group: "unfold" | "mean" | "max" | "sum";
}

const rowOf = (rows: Float64Array, index: number, size: number) =>
  rows.subarray(index * size, (index + 1) * size);

const dot = (a: ArrayLike<number>, b: ArrayLike<number>) =>
  Array.from(a).reduce((sum, x, i) => sum + x * b[i], 0);

function softmax(logits: readonly number[]): number[] {
  const most = Math.max(...logits);
  const weights = logits.map((x) => Math.exp(x - most));
  const total = weights.reduce((a, b) => a + b, 0);
  return weights.map((w) => w / total);
}

const mean = (values: readonly number[]) => values.reduce((a, b) => a + b, 0) / values.length;

const reductions: Record<string, (values: readonly number[]) => number> = {
  mean,
  max: (values) => Math.max(...values),
  sum: (values) => values.reduce((a, b) => a + b, 0),
};

/** Attention that the last queries pay to each slot, per query head: [queryHeads][tokens]. */
function windowAttention(dump: DumpValues, layer: number, ranking: Ranking): number[][] {
  const { queryHeads, kvHeads, tokens, headDim } = dump.shape;
  const { query, keyRope } = dump.layers[layer];
  return Array.from({ length: queryHeads }, (_, h) => {
    const kv = Math.floor(h / (queryHeads / kvHeads));
    const sums = new Array<number>(tokens).fill(0);
    for (let t = Math.max(0, tokens - ranking.window); t < tokens; t++) {
      const q = rowOf(query, h * tokens + t, headDim);
      const logits = Array.from({ length: t + 1 }, (_, s) => {
        return dot(q, rowOf(keyRope, kv * tokens + s, headDim)) / Math.sqrt(headDim);
      });
      softmax(logits).forEach((p, s) => {
        sums[s] += p;
      });
    }
    const divisors = { sum: () => 1, window: () => ranking.window };
    return sums.map((sum, s) =>
      ranking.norm === "causalCount" ? sum / (tokens - s) : sum / divisors[ranking.norm](),
    );
  });
}

function pooled(scores: readonly number[], ranked: number, pool: Ranking["pool"]): number[] {
  return scores.slice(0, ranked).map((score, s) => {
    if (pool === null) return score;
    const half = (pool.kernel - 1) / 2;
    const inside = scores.slice(Math.max(0, s - half), Math.min(ranked, s + half + 1));
    if (pool.kind === "max") return Math.max(...inside);
    const divisor = pool.divisor === "valid" ? inside.length : pool.kernel;
    return inside.reduce((a, b) => a + b, 0) / divisor;
  });
}

/** What ranks the slots of a layer: a row per KV head, or per query head with group "unfold". */
export function rankingScores(dump: DumpValues, layer: number, ranking: Ranking): number[][] {
  const { queryHeads, kvHeads, tokens } = dump.shape;
  const ranked = Math.max(0, tokens - ranking.window);
  const rows = windowAttention(dump, layer, ranking).map((row) => {
    const values = pooled(row, ranked, ranking.pool);
    return [...values, ...new Array<number>(tokens - ranked).fill(0)];
  });
  const { group } = ranking;
  if (group === "unfold") return rows;
  const size = queryHeads / kvHeads;
  return Array.from({ length: kvHeads }, (_, head) =>
    rows[0].map((_, s) =>
      reductions[group](rows.slice(head * size, (head + 1) * size).map((row) => row[s])),
    ),
  );
}

/** Per layer, ranked slots per row; shares by the layer's formula, an exact sum by largest remainder. */
export function layerPlan(
  kind: "uniform" | "pyramid" | "spindle",
  beta: number,
  total: number,
  layers: number,
  context: number,
): number[] {
  const b = total / layers;
  let [first, last] = [b, b];
  if (kind === "pyramid" && context >= 2 * b) {
    [first, last] = [2 * b - b / beta, b / beta];
    if (first >= context) [first, last] = [context, 2 * b - context];
  }
  if (kind === "spindle") {
    const r = b / context;
    if (r > (1 + beta) / 2) [first, last] = [context, (2 * r - 1) * context];
    else if (r > beta) [first, last] = [(2 * r - beta) * context, beta * context];
  }
  const shares = Array.from({ length: layers }, (_, l) =>
    layers === 1 ? b : first + ((last - first) * l) / (layers - 1),
  );
  const plan = shares.map((share) => Math.floor(share + 1e-9));
  const order = shares
    .map((share, l) => ({ l, rest: share - plan[l] }))
    .sort((x, y) => y.rest - x.rest || x.l - y.l);
  const left = total - plan.reduce((x, y) => x + y, 0);
  for (let i = 0; i < left; i++) plan[order[i].l] += 1;
  return plan;
}

export interface Kept {
  /** Ascending positions of one KV head. */
  readonly positions: number[];
  /** Bit g: query head g of the group selected the slot, or it is protected. */
  readonly masks: number[];
  /** How far the worst selected score is above the best one that is not; a small gap decides nothing. */
  readonly gap: number;
}

/** The best `k` of each row between the sinks and the last `recent` slots: larger first, ties the older slot. */
export function keptSlots(
  rows: readonly (readonly number[])[],
  k: number,
  sinks: number,
  recent: number,
): Kept {
  const tokens = rows[0].length;
  const bits = new Map<number, number>();
  const everyone = 2 ** rows.length - 1;
  let gap = Number.POSITIVE_INFINITY;
  for (let s = 0; s < tokens; s++) if (s < sinks || s >= tokens - recent) bits.set(s, everyone);
  rows.forEach((row, g) => {
    const order = row
      .map((score, s) => ({ score, s }))
      .filter(({ s }) => s >= sinks && s < tokens - recent)
      .sort((x, y) => y.score - x.score || x.s - y.s);
    for (const { s } of order.slice(0, k)) bits.set(s, (bits.get(s) ?? 0) | (2 ** g));
    if (k > 0 && k < order.length) {
      const difference = order[k - 1].score - order[k].score;
      // Equal scores are equal in every precision: a tie decides by index, as exactly as a gap does.
      if (difference > 0) gap = Math.min(gap, difference / order[k - 1].score);
    }
  });
  const positions = [...bits.keys()].sort((x, y) => x - y);
  return { positions, masks: positions.map((s) => bits.get(s) as number), gap };
}

/** Attention of the last query over stored slots, [queryHeads][headDim]. */
export function lastAttention(
  dump: DumpValues,
  layer: number,
  stored: {
    readonly positions: readonly (readonly number[])[];
    readonly masks: readonly (readonly number[])[];
    /** [kvHeads][slots][headDim]. */
    readonly keys: readonly (readonly (readonly number[])[])[];
    readonly values: readonly (readonly (readonly number[])[])[];
    readonly isBeforeRope: boolean;
    /** RoPE by slot index. */
    readonly isReindexed: boolean;
  },
): number[][] {
  const { queryHeads, kvHeads, tokens, headDim } = dump.shape;
  const group = queryHeads / kvHeads;
  return Array.from({ length: queryHeads }, (_, h) => {
    const kv = Math.floor(h / group);
    const slots = stored.positions[kv];
    const pre = rowOf(dump.layers[layer].queryPre, h * tokens + tokens - 1, headDim);
    const q = turnRow(pre, stored.isReindexed ? slots.length - 1 : tokens - 1, dump.rope);
    const seen = slots.map((_, i) => i).filter((i) => (stored.masks[kv][i] >> (h % group)) & 1);
    const logits = seen.map((i) => {
      const key = stored.keys[kv][i];
      const at = stored.isReindexed ? i : slots[i];
      return dot(q, stored.isBeforeRope ? turnRow(key, at, dump.rope) : key) / Math.sqrt(headDim);
    });
    const weights = softmax(logits);
    return Array.from({ length: headDim }, (_, d) =>
      seen.reduce((sum, i, j) => sum + weights[j] * stored.values[kv][i][d], 0),
    );
  });
}
