// Oracle of key_stats, per slot of a head: kNorm = |k|, vNorm = |v| and vL1 = sum_d |v_d| of the rows as they are
// stored; cosToMean = cos(k', mean_s k'_s / |k_s|) of the keys as attention reads them; and its float32 twin in the
// order of core/canonical.h (blocks of 64 slots).
import * as f32 from "./float32.ts";
import { type KeyReading, keyOf, rowOf, slotPlaces } from "./slots.ts";
import type { HeadValues } from "./types.ts";

export interface KeyStatsValues extends KeyReading {
  readonly heads: readonly HeadValues[];
}

export interface KeyStats {
  readonly kNorm: Float64Array[]; // [Hkv][slots]
  readonly cosToMean: Float64Array[];
  readonly vNorm: Float64Array[];
  readonly vL1: Float64Array[];
  /** Norm of the mean direction of a head, [Hkv]. */
  readonly meanNorm: number[];
}

const exactDot = (a: Float64Array, b: Float64Array) => a.reduce((sum, x, d) => sum + x * b[d], 0);

export function keyStatsOracle(values: KeyStatsValues): KeyStats {
  const result: KeyStats = { kNorm: [], cosToMean: [], vNorm: [], vL1: [], meanNorm: [] };
  const exact = (x: number) => x;
  const { headDim } = values;
  for (const head of values.heads) {
    const places = slotPlaces(head);
    const v = places.map((place) => rowOf(place, "v", headDim, exact));
    const keys = places.map((place) => keyOf(place, values, "f64"));
    const norms = places.map((place) => {
      const stored = rowOf(place, "k", headDim, exact);
      return Math.sqrt(exactDot(stored, stored));
    });
    const mean = new Float64Array(headDim);
    keys.forEach((key, s) => {
      if (norms[s] === 0) return;
      key.forEach((x, d) => {
        mean[d] += x / norms[s] / keys.length;
      });
    });
    const meanNorm = Math.sqrt(exactDot(mean, mean));
    result.meanNorm.push(meanNorm);
    result.kNorm.push(Float64Array.from(norms));
    result.vNorm.push(Float64Array.from(v, (row) => Math.sqrt(exactDot(row, row))));
    result.vL1.push(Float64Array.from(v, (row) => row.reduce((sum, x) => sum + Math.abs(x), 0)));
    result.cosToMean.push(
      Float64Array.from(keys, (key, s) =>
        norms[s] === 0 || meanNorm === 0 ? 0 : exactDot(key, mean) / norms[s] / meanNorm,
      ),
    );
  }
  return result;
}

/** Block sum of core/canonical.h of weights[i] * terms[i], added by fma. */
export function blockSumTwin(terms: readonly number[], weights?: readonly number[]): number {
  let total = 0;
  for (let first = 0; first < terms.length; first += 64) {
    let block = 0;
    for (let i = first; i < Math.min(terms.length, first + 64); i++) {
      block = f32.fmaf(weights?.[i] ?? 1, terms[i], block);
    }
    total = f32.fround(total + block);
  }
  return total;
}

export function keyStatsTwin(values: KeyStatsValues): KeyStats {
  const result: KeyStats = { kNorm: [], cosToMean: [], vNorm: [], vL1: [], meanNorm: [] };
  const { headDim } = values;
  for (const head of values.heads) {
    const places = slotPlaces(head);
    const v = places.map((place) => rowOf(place, "v", headDim, f32.fround));
    const keys = places.map((place) => keyOf(place, values, "f32"));
    const norms = places.map((place) =>
      f32.norm(rowOf(place, "k", headDim, f32.fround), 0, headDim),
    );
    const weights = norms.map((norm) => (norm === 0 ? 0 : f32.fround(1 / norm)));
    const mean = Float32Array.from({ length: headDim }, (_, d) => {
      const column = keys.map((key) => key[d]);
      return blockSumTwin(column, weights) / keys.length;
    });
    const meanNorm = f32.norm(mean, 0, headDim);
    result.meanNorm.push(meanNorm);
    result.kNorm.push(Float64Array.from(norms));
    result.vNorm.push(Float64Array.from(v, (row) => f32.norm(row, 0, headDim)));
    result.vL1.push(
      Float64Array.from(v, (row) => row.reduce((sum, x) => f32.fround(sum + Math.abs(x)), 0)),
    );
    result.cosToMean.push(
      Float64Array.from(keys, (key, s) => {
        if (norms[s] === 0 || meanNorm === 0) return 0;
        const dot = f32.dot(key, 0, mean, 0, headDim);
        return f32.fround(f32.fround(dot / norms[s]) / meanNorm);
      }),
    );
  }
  return result;
}
