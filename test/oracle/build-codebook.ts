// Oracle of build_codebook (SpindleKV, arXiv 2507.06517, eq. 8-13) on the rows of one problem.
//   G[a,b] = 1 iff <u_a, u_b> > theta, or a = b, or rows a and b are equal (zero rows are equal to each other);
//   cover: the uncovered row with the most uncovered neighbours becomes a codeword, they take its label;
//   emit: codewords, refined by spherical k-means as long as every member stays above its bound.
// The float64 oracle gives graph and cover from the formula; the twin gives the bits of all stages.
import { dot, fmaf, fround, norm, unit } from "./float32.ts";
import { type FloatDType, roundTo } from "./float-formats.ts";

export interface CodebookCase {
  readonly x: Float32Array; // [n, D], values that dtype holds
  readonly n: number;
  readonly headDim: number;
  readonly dtype: FloatDType;
  readonly theta: number;
  readonly rows?: Int32Array; // ascending; all when absent
  readonly maxCodewords?: number; // 0: no limit
  readonly refine?: number;
}

export interface Cover {
  readonly labels: Int32Array; // [rows]
  readonly leaders: number[]; // index into x
}

export interface CodebookResult extends Cover {
  readonly graph: Uint8Array; // [n, n] of 0 and 1
  readonly refinedLabels: Int32Array;
  readonly codewords: Float32Array; // [count, D]
  readonly count: number;
  readonly magnitudes: Float32Array; // [rows]
  readonly cosines: Float32Array; // [rows]
}

function rowsOf(values: CodebookCase): number[] {
  return Array.from(values.rows ?? Array.from({ length: values.n }, (_, i) => i));
}

function graphOf(
  values: CodebookCase,
  norms: ArrayLike<number>,
  cosine: (a: number, b: number) => number,
) {
  const { x, n, headDim, theta } = values;
  const threshold = fround(theta);
  const graph = new Uint8Array(n * n);
  const isEqual = (a: number, b: number) => {
    for (let d = 0; d < headDim; d++) {
      if (!Object.is(x[a * headDim + d], x[b * headDim + d])) return false;
    }
    return true;
  };
  for (let a = 0; a < n; a++) {
    for (let b = 0; b <= a; b++) {
      const joined =
        a === b || cosine(a, b) > threshold || (norms[a] === 0 && norms[b] === 0) || isEqual(a, b);
      graph[a * n + b] = graph[b * n + a] = joined ? 1 : 0;
    }
  }
  return graph;
}

/** Greedy maximum-degree cover of the sub-graph of rows; ties: smallest index. */
export function greedyCover(
  graph: Uint8Array,
  n: number,
  rows: readonly number[],
  maxCodewords: number,
  cosine: (a: number, b: number) => number,
): Cover {
  const labels = new Int32Array(rows.length).fill(-1);
  const leaders: number[] = [];
  let open = rows.map((_, i) => i);
  while (maxCodewords === 0 || leaders.length < maxCodewords) {
    let best = -1;
    let bestDegree = 0;
    for (const i of open) {
      let degree = 0;
      for (const j of open) degree += graph[rows[i] * n + rows[j]];
      if (degree > bestDegree) [best, bestDegree] = [i, degree];
    }
    if (best < 0) break;
    const leader = rows[best];
    const isNeighbour = (j: number) => graph[leader * n + rows[j]] === 1;
    for (const j of open.filter(isNeighbour)) labels[j] = leaders.length;
    open = open.filter((j) => !isNeighbour(j));
    leaders.push(leader);
  }
  for (const i of open) {
    let best = -Infinity;
    leaders.forEach((leader, c) => {
      const similarity = cosine(rows[i], leader);
      if (similarity > best) [best, labels[i]] = [similarity, c];
    });
  }
  return { labels, leaders };
}

/** Graph and cover with float64 cosines. */
export function buildCodebookOracle(values: CodebookCase): Cover & { graph: Uint8Array } {
  const { x, n, headDim } = values;
  const product = (a: number, b: number) => {
    let sum = 0;
    for (let d = 0; d < headDim; d++) sum += x[a * headDim + d] * x[b * headDim + d];
    return sum;
  };
  const norms = Float64Array.from({ length: n }, (_, i) => Math.sqrt(product(i, i)));
  const cosine = (a: number, b: number) =>
    norms[a] === 0 || norms[b] === 0 ? 0 : product(a, b) / (norms[a] * norms[b]);
  const graph = graphOf(values, norms, cosine);
  return { graph, ...greedyCover(graph, n, rowsOf(values), values.maxCodewords ?? 0, cosine) };
}

export function buildCodebookTwin(values: CodebookCase): CodebookResult {
  const { x, n, headDim, dtype, refine = 0, maxCodewords = 0 } = values;
  const theta = fround(values.theta);
  const rows = rowsOf(values);
  const norms = Float32Array.from({ length: n }, (_, i) => norm(x, i * headDim, headDim));
  const units = Array.from({ length: n }, (_, i) => unit(x, i * headDim, headDim));
  const cosine = (a: number, b: number) => dot(units[a], 0, units[b], 0, headDim);
  const graph = graphOf(values, norms, cosine);
  const cover = greedyCover(graph, n, rows, maxCodewords, cosine);

  const rounded = (row: Float32Array) => row.map((value) => roundTo(dtype, value));
  let codewords = cover.leaders.map((leader) => rounded(units[leader]));
  const labels = cover.labels.slice();
  const bounds = rows.map((row, i) =>
    graph[row * n + cover.leaders[labels[i]]] === 1 ? theta : -2,
  );
  const similarity = (i: number, codeword: Float32Array) =>
    dot(units[rows[i]], 0, codeword, 0, headDim);
  const square = (codeword: Float32Array) => dot(codeword, 0, codeword, 0, headDim);

  const errorOf = (members: number[], codeword: Float32Array) => {
    const length = square(codeword);
    let sum = 0;
    for (const i of members) {
      sum += norms[rows[i]] ** 2 * (1 - 2 * similarity(i, codeword) + length);
    }
    return sum;
  };

  // One codeword's step towards the mean of its members; returns whether it moved.
  const refineCodeword = (c: number): boolean => {
    const members = rows.flatMap((_, i) => (labels[i] === c ? [i] : []));
    const sum = new Float32Array(headDim);
    for (const i of members) {
      for (let d = 0; d < headDim; d++)
        sum[d] = fmaf(norms[rows[i]], x[rows[i] * headDim + d], sum[d]);
    }
    const mean = unit(sum, 0, headDim);
    const present = codewords[c];
    const presentError = errorOf(members, present);
    for (const t of [1, 0.5, 0.25, 0.125]) {
      const between = present.map((w, d) => w + t * fround(mean[d] - w));
      const candidate = rounded(t === 1 ? mean : unit(between, 0, headDim));
      if (!members.every((i) => similarity(i, candidate) > bounds[i])) continue;
      if (!(errorOf(members, candidate) < presentError)) continue;
      codewords[c] = candidate;
      return true;
    }
    return false;
  };

  const reassign = (i: number): boolean => {
    const gain = (j: number) => fround(2 * similarity(i, codewords[j]) - square(codewords[j]));
    let best = labels[i];
    let bestGain = gain(best);
    codewords.forEach((codeword, j) => {
      if (similarity(i, codeword) > bounds[i] && gain(j) > bestGain)
        [best, bestGain] = [j, gain(j)];
    });
    const moved = best !== labels[i];
    labels[i] = best;
    return moved;
  };

  for (let round = 0; round < refine; round++) {
    let changed = false;
    for (let c = 0; c < codewords.length; c++) changed = refineCodeword(c) || changed;
    for (let i = 0; i < rows.length; i++) changed = reassign(i) || changed;
    if (!changed) break;
  }

  const used = codewords.flatMap((_, c) => (labels.includes(c) ? [c] : []));
  codewords = used.map((c) => codewords[c]);
  const refinedLabels = labels.map((label) => used.indexOf(label));
  const flat = new Float32Array(codewords.length * headDim);
  codewords.forEach((codeword, c) => {
    flat.set(codeword, c * headDim);
  });
  return {
    ...cover,
    graph,
    refinedLabels,
    codewords: flat,
    count: codewords.length,
    magnitudes: Float32Array.from(rows, (row) => roundTo(dtype, norms[row])),
    cosines: Float32Array.from(rows, (_, i) => similarity(i, codewords[refinedLabels[i]])),
  };
}

/** Mean over rows of |x_i - |x_i| w_label(i)|^2 in float64: what refinement must not raise. */
export function meanSquaredError(
  values: CodebookCase,
  labels: ArrayLike<number>,
  codewords: ArrayLike<number>,
): number {
  const { x, headDim } = values;
  const rows = rowsOf(values);
  let total = 0;
  rows.forEach((row, i) => {
    let square = 0;
    for (let d = 0; d < headDim; d++) square += x[row * headDim + d] ** 2;
    const size = Math.sqrt(square);
    for (let d = 0; d < headDim; d++) {
      total += (x[row * headDim + d] - size * codewords[labels[i] * headDim + d]) ** 2;
    }
  });
  return rows.length === 0 ? 0 : total / rows.length;
}
