// Oracles of the scorers that read keys, values and query statistics: plain loops in float64 with the papers' symbols.
//   L2 norm (arXiv 2406.11430), KeyDiff (2504.15364), LagKV (2504.04704), Expected Attention (2510.00636),
//   EMS' global-local score (2412.08521).
import { rotateRow } from "./rope.ts";
import type { RopeValues } from "./types.ts";

type Row = readonly number[];

const sum = (values: Row) => values.reduce((a, b) => a + b, 0);
const dot = (a: Row, b: Row) => sum(a.map((x, i) => x * b[i]));
const norm = (a: Row) => Math.sqrt(dot(a, a));

/** Rows [slots, d] of a flat array. */
export function rowsOf(values: ArrayLike<number>, d: number): number[][] {
  return Array.from({ length: values.length / d }, (_, row) =>
    Array.from({ length: d }, (_, i) => values[row * d + i]),
  );
}

export function keyNormOracle(keys: readonly Row[]): number[] {
  return keys.map((key) => -norm(key));
}

export function keyDiffOracle(keys: readonly Row[]): number[] {
  const anchor = keys[0].map((_, d) => sum(keys.map((key) => key[d] / norm(key))) / keys.length);
  return keys.map((key) => -dot(key, anchor) / (norm(key) * norm(anchor)));
}

export function softmax(logits: Row): number[] {
  const most = Math.max(...logits);
  const total = sum(logits.map((x) => Math.exp(x - most)));
  return logits.map((x) => Math.exp(x - most) / total);
}

/** Block `rows` against the block that follows it. */
function lagSoftmax(rows: readonly Row[], next: readonly Row[]): number[] {
  const deviations = rows.map((row) => {
    const relative = row.map((x, d) => {
      const channel = next.map((other) => other[d]);
      const [min, max] = [Math.min(...channel), Math.max(...channel)];
      return max > min ? (x - min) / (max - min) : 0;
    });
    const mean = sum(relative) / relative.length;
    return Math.sqrt(sum(relative.map((x) => (x - mean) ** 2)) / (relative.length - 1));
  });
  return softmax(deviations);
}

export interface LagCase {
  readonly keys: readonly Row[];
  readonly values: readonly Row[];
  readonly lag: number;
  readonly sinks: number;
  readonly crossScoring: boolean;
}

/** Scores of the slots behind the sinks that have a next block; undefined: a slot that ranks above all of them. */
export function lagOracle({ keys, values, lag, sinks, crossScoring }: LagCase) {
  const scores = new Array<number | undefined>(keys.length).fill(undefined);
  for (let start = sinks; start + 2 * lag <= keys.length; start += lag) {
    const [middle, end] = [start + lag, start + 2 * lag];
    const k = lagSoftmax(keys.slice(start, middle), keys.slice(middle, end));
    const v = lagSoftmax(values.slice(start, middle), values.slice(middle, end));
    const mean = k.map((x, i) => (x + v[i]) / 2);
    mean.forEach((x, i) => {
      // Of equal slots the older one ranks higher.
      const worse = mean.filter((y, j) => y < x || (y === x && j > i)).length;
      scores[start + i] = crossScoring ? x : worse / lag;
    });
  }
  return scores;
}

export interface ExpectationCase {
  /** Of one KV head, after RoPE. */
  readonly keys: readonly Row[];
  readonly values: readonly Row[];
  /** Before RoPE, of each query head of the group. */
  readonly queries: readonly (readonly Row[])[];
  readonly rope?: RopeValues;
  /** First position to come, and how many. */
  readonly next: number;
  readonly future: number;
  readonly sinks: number;
  readonly covariance: boolean;
  readonly valueNorm: boolean;
  readonly epsilon: number;
}

/** The mean of the RoPE matrices of the positions to come, [d][d]. */
function meanRotation(d: number, next: number, future: number, rope?: RopeValues): number[][] {
  const matrix = Array.from({ length: d }, () => new Array<number>(d).fill(0));
  for (let i = 0; i < d; i++) {
    const unit = Array.from({ length: d }, (_, j) => (i === j ? 1 : 0));
    for (let step = 0; step < future; step++) {
      const turned = rope === undefined ? unit : rotateRow(unit, next + step, rope);
      for (let j = 0; j < d; j++) matrix[j][i] += turned[j] / future;
    }
  }
  return matrix;
}

export function expectationOracle(values: ExpectationCase): number[] {
  const { keys, queries, sinks, epsilon } = values;
  const d = keys[0].length;
  const r = meanRotation(d, values.next, values.future, values.rope);
  const perHead = queries.map((rows) => {
    const mu = rows[0].map((_, i) => sum(rows.map((row) => row[i])) / rows.length);
    const turnedMu = r.map((row) => dot(row, mu));
    const sigma = mu.map((_, i) =>
      mu.map((_, j) => sum(rows.map((q) => (q[i] - mu[i]) * (q[j] - mu[j]))) / rows.length),
    );
    const logits = keys.slice(sinks).map((key) => {
      // k^T (R Sigma R^T) k = (R^T k)^T Sigma (R^T k)
      const back = key.map((_, i) => sum(key.map((x, j) => r[j][i] * x)));
      const spread = values.covariance
        ? dot(
            back,
            sigma.map((row) => dot(row, back)),
          )
        : 0;
      return dot(turnedMu, key) / Math.sqrt(d) + spread / (2 * d);
    });
    return softmax(logits);
  });
  return keys.map((_, slot) => {
    const attention =
      slot < sinks ? 0 : sum(perHead.map((row) => row[slot - sinks])) / perHead.length;
    return (attention + epsilon) * (values.valueNorm ? norm(values.values[slot]) : 1);
  });
}

/** Both [slots] of one KV head, summed over its query heads; `from` and `to`: its ranked slots. */
export function globalLocalOracle(
  global: Row,
  local: Row,
  from: number,
  to: number,
  combine: "sum" | "max",
): number[] {
  const mean = (row: Row) => sum(row.slice(from, to)) / (to - from);
  const align = mean(local) / mean(global);
  return global.map((x, slot) =>
    combine === "sum" ? x * align + local[slot] : Math.max(x * align, local[slot]),
  );
}
