// Oracle of window_scores: column statistics of the dense causal softmax of the window's queries,
//   sum[h,s] = sum_w p[h,w,s],  sumSq = sum_w p^2,  max = max_w p,  entropy[h] = - sum_{w,s} p ln p,
// and its float32 twin in the order of core/canonical.h (blocks of 64 slots, queries ascending).
import * as f32 from "./float32.ts";
import { betaOf, isVisible, keyOf, queryOf, slotPlaces } from "./slots.ts";
import type { QueryValues } from "./types.ts";

export type WindowNorm = "sum" | "window" | "causalCount";

/** What the statistics count: sum = sum_w weight_w p, and the entropy over slots before the first query alone. */
export interface WindowCounting {
  readonly queryWeights?: Float32Array; // [W]
  readonly entropyContext?: boolean;
}

export interface WindowScores {
  readonly sum: Float64Array[]; // [Hq][slots]
  readonly sumSq: Float64Array[];
  readonly max: Float64Array[];
  readonly entropy: Float64Array; // [Hq]
  readonly lse: Float64Array; // [Hq, W]
  nonfinite: number;
}

const BLOCK_SLOTS = 64;

function emptyResult(values: QueryValues): WindowScores {
  const queryHeads = values.heads.length * values.group;
  return {
    sum: [],
    sumSq: [],
    max: [],
    entropy: new Float64Array(queryHeads),
    lse: new Float64Array(queryHeads * values.queries).fill(-Infinity),
    nonfinite: 0,
  };
}

/** Walks query heads and queries; `row` gives the probabilities of one query over the head's slots. */
function scan(
  values: QueryValues,
  norm: WindowNorm,
  { queryWeights, entropyContext = false }: WindowCounting,
  arithmetic: "f64" | "f32",
  row: (logits: Float64Array, visible: boolean[]) => { p: Float64Array; lse: number },
): WindowScores {
  const { group, queries, headDim } = values;
  const result = emptyResult(values);
  const single = arithmetic === "f32";
  const round = single ? f32.fround : (x: number) => x;
  const scale = f32.fround(values.scale);
  values.heads.forEach((head, kvHead) => {
    const places = slotPlaces(head);
    const keys = places.map((place) => keyOf(place, values, arithmetic));
    const counts = places.map(
      ({ run, local }) => !entropyContext || run.positions[local] < values.queryPosition,
    );
    for (let g = 0; g < group; g++) {
      const h = kvHead * group + g;
      const sum = new Float64Array(places.length);
      const sumSq = new Float64Array(places.length);
      const max = new Float64Array(places.length);
      for (let w = 0; w < queries; w++) {
        const q = queryOf(values, h, w, arithmetic);
        const visible = places.map((place) => isVisible(place, values, h, w));
        const logits = Float64Array.from(places, (place, s) => {
          if (!visible[s]) return -Infinity;
          let dot = 0;
          if (single) dot = f32.dot(q, 0, keys[s], 0, headDim);
          else for (let d = 0; d < headDim; d++) dot += q[d] * keys[s][d];
          return round(round(dot * scale) + betaOf(place));
        });
        result.nonfinite += logits.filter((z, s) => visible[s] && !Number.isFinite(z)).length;
        const { p, lse } = row(logits, visible);
        result.lse[h * queries + w] = lse;
        for (let s = 0; s < places.length; s++) {
          const weight = queryWeights?.[w] ?? 1;
          sum[s] = single ? f32.fmaf(weight, p[s], sum[s]) : sum[s] + weight * p[s];
          sumSq[s] = single ? f32.fmaf(p[s], p[s], sumSq[s]) : sumSq[s] + p[s] * p[s];
          if (p[s] > max[s]) max[s] = p[s];
          if (p[s] > 0 && counts[s]) result.entropy[h] -= p[s] * Math.log(p[s]);
        }
      }
      places.forEach((place, s) => {
        if (norm === "window") {
          sum[s] = round(sum[s] / queries);
          sumSq[s] = round(sumSq[s] / queries);
        } else if (norm === "causalCount") {
          const count = values.queryPosition + queries - place.run.positions[place.local];
          sum[s] = count > 0 ? round(sum[s] / count) : 0;
        }
      });
      result.sum.push(sum);
      result.sumSq.push(sumSq);
      result.max.push(max);
    }
  });
  return result;
}

export function windowScoresOracle(
  values: QueryValues,
  norm: WindowNorm = "sum",
  counting: WindowCounting = {},
): WindowScores {
  return scan(values, norm, counting, "f64", (logits, visible) => {
    const p = new Float64Array(logits.length);
    if (!visible.includes(true)) return { p, lse: -Infinity };
    const top = logits.reduce((a, b) => Math.max(a, b), -Infinity);
    let total = 0;
    for (const z of logits) total += Math.exp(z - top);
    for (let s = 0; s < p.length; s++) p[s] = Math.exp(logits[s] - top) / total;
    return { p, lse: top + Math.log(total) };
  });
}

/** sum, sumSq and max are the bits every backend must give; entropy and lse are not canonical. */
export function windowScoresTwin(
  values: QueryValues,
  norm: WindowNorm = "sum",
  counting: WindowCounting = {},
): WindowScores {
  return scan(values, norm, counting, "f32", (logits, visible) => {
    const p = new Float64Array(logits.length);
    if (!visible.includes(true)) return { p, lse: -Infinity };
    const blockMax: number[] = [];
    const blockSum: number[] = [];
    for (let start = 0; start < logits.length; start += BLOCK_SLOTS) {
      const block = logits.subarray(start, start + BLOCK_SLOTS);
      const top = block.reduce((a, b) => Math.max(a, b), -Infinity);
      const terms = new Float32Array(BLOCK_SLOTS);
      block.forEach((z, i) => {
        if (visible[start + i]) terms[i] = f32.exp(f32.fround(z - top));
      });
      blockMax.push(top);
      blockSum.push(f32.halvingSum64(terms));
    }
    const top = blockMax.reduce((a, b) => Math.max(a, b), -Infinity);
    let total = 0;
    blockMax.forEach((m, b) => {
      total = f32.fmaf(blockSum[b], f32.exp(f32.fround(m - top)), total);
    });
    for (let s = 0; s < p.length; s++) {
      if (visible[s]) p[s] = f32.fround(f32.exp(f32.fround(logits[s] - top)) / total);
    }
    return { p, lse: top + Math.log(total) };
  });
}
