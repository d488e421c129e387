// Oracle of reduce_by_label: sums[c] = sum of weight_i x_i over the rows of label c, i ascending; counts; offsets are
// the exclusive prefix of the counts; order lists the rows grouped by label. Labels outside [0, C) take no part.
import { fmaf } from "./float32.ts";

export interface ReduceByLabelCase {
  readonly x?: Float32Array; // [n, D]
  readonly headDim: number;
  readonly labels: Int32Array;
  readonly weights?: Float32Array;
  readonly nLabels: number;
}

export interface ReduceByLabelResult {
  readonly sums: Float64Array; // [C, D]
  readonly counts: Int32Array;
  readonly offsets: Int32Array;
  readonly order: number[];
}

function reduce(
  values: ReduceByLabelCase,
  multiplyAdd: (a: number, b: number, c: number) => number,
): ReduceByLabelResult {
  const { x, headDim, labels, weights, nLabels } = values;
  const sums = new Float64Array(nLabels * headDim);
  const counts = new Int32Array(nLabels);
  const offsets = new Int32Array(nLabels + 1);
  const order: number[] = [];
  for (let c = 0; c < nLabels; c++) {
    for (let i = 0; i < labels.length; i++) {
      if (labels[i] !== c) continue;
      counts[c] += 1;
      order.push(i);
      for (let d = 0; x !== undefined && d < headDim; d++) {
        const at = c * headDim + d;
        sums[at] = multiplyAdd(weights?.[i] ?? 1, x[i * headDim + d], sums[at]);
      }
    }
    offsets[c + 1] = order.length;
  }
  return { sums, counts, offsets, order };
}

export const reduceByLabelOracle = (values: ReduceByLabelCase): ReduceByLabelResult =>
  reduce(values, (a, b, c) => a * b + c);
export const reduceByLabelTwin = (values: ReduceByLabelCase): ReduceByLabelResult =>
  reduce(values, fmaf);
