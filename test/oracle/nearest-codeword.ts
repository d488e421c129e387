// Oracle of nearest_codeword: index[i] = argmax_c <u_i, w_c>, u_i = x_i / |x_i| if normalize; tie: smaller index.
// NaN loses against everything; no codeword: index -1, score -inf; only NaN: index -1, score NaN.
import { dot, norm, unit } from "./float32.ts";

export interface NearestCase {
  readonly x: Float32Array; // [n, D]
  readonly codewords: Float32Array; // [c, D]
  readonly n: number;
  readonly c: number;
  readonly headDim: number;
  readonly normalize: boolean;
}

export interface NearestResult {
  readonly index: Int32Array;
  readonly score: Float64Array;
  readonly norm: Float64Array;
  /** Every score, [n, c]: lets a test see how close the second best was. */
  readonly scores: Float64Array;
}

function search(
  values: NearestCase,
  norms: Float64Array,
  scoreOf: (i: number, c: number) => number,
): NearestResult {
  const { n, c } = values;
  const index = new Int32Array(n).fill(-1);
  const score = new Float64Array(n).fill(c === 0 ? -Infinity : Number.NaN);
  const scores = new Float64Array(n * c);
  for (let i = 0; i < n; i++) {
    for (let j = 0; j < c; j++) {
      const value = scoreOf(i, j);
      scores[i * c + j] = value;
      if (!Number.isNaN(value) && (index[i] < 0 || value > score[i])) {
        index[i] = j;
        score[i] = value;
      }
    }
  }
  return { index, score, norm: norms, scores };
}

export function nearestCodewordOracle(values: NearestCase): NearestResult {
  const { x, codewords, n, headDim, normalize } = values;
  const norms = new Float64Array(n);
  for (let i = 0; i < n; i++) {
    let sum = 0;
    for (let d = 0; d < headDim; d++) sum += x[i * headDim + d] ** 2;
    norms[i] = Math.sqrt(sum);
  }
  return search(values, norms, (i, j) => {
    let sum = 0;
    for (let d = 0; d < headDim; d++) sum += x[i * headDim + d] * codewords[j * headDim + d];
    if (!normalize) return sum;
    return norms[i] === 0 ? 0 : sum / norms[i];
  });
}

export function nearestCodewordTwin(values: NearestCase): NearestResult {
  const { x, codewords, n, headDim, normalize } = values;
  const norms = new Float64Array(n);
  const rows: Float32Array[] = [];
  for (let i = 0; i < n; i++) {
    norms[i] = norm(x, i * headDim, headDim);
    rows.push(normalize ? unit(x, i * headDim, headDim) : x.slice(i * headDim, (i + 1) * headDim));
  }
  return search(values, norms, (i, j) => dot(rows[i], 0, codewords, j * headDim, headDim));
}
