// Oracle of attend: dense softmax attention in float64.
//   z[h,t,s] = scale <q'[h,t], k'[s]> + beta[s],  p = softmax over visible s,  out[h,t] = sum_s p v[s]
// lse[h,t] = ln sum_s exp z. Score sums are added up over t (and, per KV head, over the group), not averaged.
// attendNaive is the yardstick of the tolerance: the same loops in the dtype of the data.
import { exp, fmaf, fround } from "./float32.ts";
import { type FloatDType, roundTo } from "./float-formats.ts";
import { betaOf, isVisible, keyOf, queryOf, rowOf, slotPlaces } from "./slots.ts";
import { type QueryValues, slotsOf } from "./types.ts";

export interface AttendResult {
  readonly out: Float64Array; // [Hq, Tq, D]
  readonly lse: Float64Array; // [Hq, Tq]
  readonly queryHeadScores: Float64Array[]; // [Hq][slots]
  readonly kvHeadScores: Float64Array[]; // [Hkv][slots]
}

export function attendOracle(values: QueryValues): AttendResult {
  const { headDim, group, queries, heads } = values;
  const queryHeads = heads.length * group;
  const out = new Float64Array(queryHeads * queries * headDim);
  const lse = new Float64Array(queryHeads * queries);
  const queryHeadScores: Float64Array[] = [];
  const kvHeadScores = heads.map((head) => new Float64Array(slotsOf(head)));
  const scale = fround(values.scale);
  heads.forEach((head, kvHead) => {
    const places = slotPlaces(head);
    const keys = places.map((place) => keyOf(place, values, "f64"));
    const rows = places.map((place) => rowOf(place, "v", headDim, (x) => x));
    for (let g = 0; g < group; g++) {
      const h = kvHead * group + g;
      const scores = new Float64Array(places.length);
      for (let t = 0; t < queries; t++) {
        const q = queryOf(values, h, t, "f64");
        const visible = places.filter((place) => isVisible(place, values, h, t));
        const logits = visible.map((place) => {
          const key = keys[place.index];
          let dot = 0;
          for (let d = 0; d < headDim; d++) dot += q[d] * key[d];
          return dot * scale + betaOf(place);
        });
        const top = logits.reduce((a, b) => (Number.isNaN(a) || a > b ? a : b), -Infinity);
        let total = 0;
        for (const logit of logits) total += Math.exp(logit - top);
        lse[h * queries + t] = visible.length === 0 ? -Infinity : top + Math.log(total);
        visible.forEach((place, i) => {
          const p = Math.exp(logits[i] - top) / total;
          scores[place.index] += p;
          kvHeadScores[kvHead][place.index] += p;
          const row = rows[place.index];
          for (let d = 0; d < headDim; d++) out[(h * queries + t) * headDim + d] += p * row[d];
        });
      }
      queryHeadScores.push(scores);
    }
  });
  return { out, lse, queryHeadScores, kvHeadScores };
}

/** The plain implementation that the error bound is measured with: whatever it would store in memory between
 * its steps (q', k', decoded rows, weights, output) is rounded to the dtype of the data; sums and logits are float32. */
export function attendNaive(
  values: QueryValues,
  dtype: FloatDType,
  outDtype: FloatDType,
): AttendResult {
  const { headDim, group, queries, heads } = values;
  const queryHeads = heads.length * group;
  const out = new Float64Array(queryHeads * queries * headDim);
  const lse = new Float64Array(queryHeads * queries);
  const queryHeadScores: Float64Array[] = [];
  const kvHeadScores = heads.map((head) => new Float64Array(slotsOf(head)));
  const scale = fround(values.scale);
  const stored = (x: number) => roundTo(dtype, x);
  heads.forEach((head, kvHead) => {
    const places = slotPlaces(head);
    const keys = places.map((place) => keyOf(place, values, "f32").map(stored));
    const rows = places.map((place) => rowOf(place, "v", headDim, fround).map(stored));
    for (let g = 0; g < group; g++) {
      const h = kvHead * group + g;
      const scores = new Float64Array(places.length);
      for (let t = 0; t < queries; t++) {
        const q = queryOf(values, h, t, "f32").map((x) => roundTo(outDtype, x));
        const visible = places.filter((place) => isVisible(place, values, h, t));
        const logits = visible.map((place) => {
          const key = keys[place.index];
          let dot = 0;
          for (let d = 0; d < headDim; d++) dot = fmaf(q[d], key[d], dot);
          return fround(fround(dot * scale) + betaOf(place));
        });
        const top = logits.reduce((a, b) => (a > b ? a : b), -Infinity);
        const weights = logits.map((logit) => exp(fround(logit - top)));
        const total = weights.reduce((sum, p) => fround(sum + p), 0);
        const sums = new Float32Array(headDim);
        visible.forEach((place, i) => {
          const weight = stored(weights[i]);
          const row = rows[place.index];
          for (let d = 0; d < headDim; d++) sums[d] = fround(sums[d] + fround(weight * row[d]));
          const p = fround(weights[i] / total);
          scores[place.index] = fround(scores[place.index] + p);
          kvHeadScores[kvHead][place.index] = fround(kvHeadScores[kvHead][place.index] + p);
        });
        lse[h * queries + t] =
          visible.length === 0 ? -Infinity : fround(top + fround(Math.log(total)));
        for (let d = 0; d < headDim; d++) {
          const value = visible.length === 0 ? 0 : fround(sums[d] / total);
          out[(h * queries + t) * headDim + d] = roundTo(outDtype, value);
        }
      }
      queryHeadScores.push(scores);
    }
  });
  return { out, lse, queryHeadScores, kvHeadScores };
}
