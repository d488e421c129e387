import type { HeadRows, LayerScores, ScoreInput, ScorePart } from "../cache/method.js";
import { pairOf, type RowRope } from "../cache/row-rope.js";
import { argumentError, spindleError } from "../errors.js";
import { Tensor } from "../tensor.js";

/** Options of {@link expectedAttention}. */
export interface ExpectedAttentionOptions {
  /** Last queries whose mean and covariance stand for those to come, 1..65536; sinks' queries are left out. Default 1024. */
  readonly window?: number;
  /** Positions to come over which RoPE is averaged, 1 or more. Default 512. */
  readonly futurePositions?: number;
  /** Whether the covariance of the queries counts, or their mean alone. Default true. */
  readonly covariance?: boolean;
  /** "l2" (default): times the norm of the slot's value. */
  readonly valueNorm?: "none" | "l2";
  /** Added to the attention before it is multiplied by the norm, >= 0. Default 0. */
  readonly epsilon?: number;
}

/**
 * Ranks a slot by the attention that queries like those seen so far will pay to it from the positions to come.
 *
 *   mu, Sigma  = mean and covariance of the queries before RoPE, per query head
 *   R          = mean of the RoPE matrices of the next `futurePositions` positions
 *   logit[k]   = (R mu)^T K[k] / sqrt(d) + K[k]^T (R Sigma R^T) K[k] / (2 d)
 *   s[k]       = (mean over the group of softmax(logit)[k] + epsilon) * |V[k]|
 *
 * which is the expectation of exp(q^T K / sqrt(d)) for normally distributed q.
 *
 * @source Expected Attention, arXiv 2510.00636, and kvpress.
 *
 * Differs from kvpress: statistics of the queries themselves (there: of hidden states, times W_q), so models with
 * QK-norm work too; of the last `window` ones. Arithmetic in float64.
 *
 * Cost: d^2 multiplications a slot and query head, on the host in one thread, and the recorded queries (2 * window rows
 * a query head while the prompt runs). Needs keys and queries before RoPE (give the cache `rope`).
 *
 * @throws {SpindleKVError} ERR_SPINDLEKV_ARGUMENT when an option is out of range
 */
export function expectedAttention(options: ExpectedAttentionOptions = {}): ScorePart {
  const { window = 1024, futurePositions = 512, covariance = true } = options;
  const { valueNorm = "l2", epsilon = 0 } = options;
  const op = "expectedAttention";
  if (!Number.isInteger(window) || window < 1 || window > 65536) {
    throw argumentError(op, "an integer in [1, 65536]", "window", window);
  }
  if (!Number.isInteger(futurePositions) || futurePositions < 1 || futurePositions > 2 ** 20) {
    throw argumentError(op, "an integer in [1, 2^20]", "futurePositions", futurePositions);
  }
  if (typeof covariance !== "boolean") {
    throw argumentError(op, "a boolean", "covariance", covariance);
  }
  if (valueNorm !== "none" && valueNorm !== "l2") {
    throw argumentError(op, '"none" or "l2"', "valueNorm", valueNorm);
  }
  if (!(epsilon >= 0 && Number.isFinite(epsilon))) {
    throw argumentError(op, "a finite number of 0 or more", "epsilon", epsilon);
  }
  const checked = { window, futurePositions, covariance, valueNorm, epsilon };
  return Object.freeze({
    id: "expected-attention",
    source: "attention",
    needs: Object.freeze(["keys", "values", "queries", "pre-rope keys"] as const),
    options: Object.freeze(checked),
    window,
    sums: "none",
    rank: (input) => rankByExpectation(input, checked),
  } satisfies ScorePart);
}

async function rankByExpectation(
  input: ScoreInput,
  options: Required<ExpectedAttentionOptions>,
): Promise<LayerScores> {
  const { device, kvHeads, group, lengths, longest, headDim, sinks, layer } = input;
  const wanted = Math.min(options.window, input.tokens);
  if (input.recordedQueries < wanted) {
    throw spindleError(
      "ERR_SPINDLEKV_MISSING_INPUT",
      "compress",
      `compress: expected the queries of the last ${wanted} tokens for score expected-attention, ` +
        `got ${input.recordedQueries} recorded by attend in layer ${layer}`,
    );
  }
  // The queries of the first tokens are outliers.
  const count = Math.max(1, Math.min(wanted, input.tokens - sinks));
  const turn = meanTurn(input, options.futurePositions);
  const scores = new Float32Array(kvHeads * longest);
  for (const [head, length] of lengths.entries()) {
    const rows = await input.rows(head);
    const mean = new Float64Array(length);
    for (let g = 0; g < group; g++) {
      const queries = await input.queries(head * group + g, count);
      const statistics = statisticsOf(queries, headDim, turn, options.covariance);
      const attention = softmaxOf(logitsOf(rows, statistics, input), sinks);
      attention.forEach((p, slot) => {
        mean[slot] = (mean[slot] as number) + p / group;
      });
    }
    const own = scores.subarray(head * longest, head * longest + length);
    own.set(mean.map((p, slot) => weighed(p, rows, slot, headDim, options)));
  }
  return { scores: Tensor.from(device, "f32", [kvHeads, longest], scores), lengths, group: 1 };
}

/** Attention times what the slot's value weighs. */
function weighed(
  attention: number,
  { values }: HeadRows,
  slot: number,
  headDim: number,
  { valueNorm, epsilon }: Required<ExpectedAttentionOptions>,
): number {
  if (valueNorm === "none") return attention + epsilon;
  let squares = 0;
  for (let d = slot * headDim; d < (slot + 1) * headDim; d++) squares += (values[d] as number) ** 2;
  return (attention + epsilon) * Math.sqrt(squares);
}

/** Mean of the RoPE matrices of the positions to come: each pair of dims turns and shrinks. */
interface MeanTurn {
  readonly rope: RowRope | undefined;
  /** [nRot / 2]. */
  readonly cos: Float64Array;
  readonly sin: Float64Array;
}

function meanTurn({ rope, nextPosition }: ScoreInput, futurePositions: number): MeanTurn {
  const pairs = rope === undefined ? 0 : rope.nRot / 2;
  const cos = new Float64Array(pairs);
  const sin = new Float64Array(pairs);
  const angles = rope?.angles(nextPosition + futurePositions) ?? new Float32Array(0);
  for (let step = 0; step < futurePositions; step++) {
    for (let i = 0; i < pairs; i++) {
      const at = ((nextPosition + step) * pairs + i) * 2;
      cos[i] = (cos[i] as number) + (angles[at] as number) / futurePositions;
      sin[i] = (sin[i] as number) + (angles[at + 1] as number) / futurePositions;
    }
  }
  return { rope, cos, sin };
}

/** R row, for a row of d numbers; in place. */
function turnByMean(row: Float64Array, { rope, cos, sin }: MeanTurn): void {
  if (rope === undefined) return;
  for (let i = 0; i < cos.length; i++) {
    const [a, b] = pairOf(rope, i);
    const x = row[a] as number;
    const y = row[b] as number;
    row[a] = x * (cos[i] as number) - y * (sin[i] as number);
    row[b] = y * (cos[i] as number) + x * (sin[i] as number);
  }
}

/** Mean and covariance of the queries to come; the covariance [d, d]. */
interface QueryStatistics {
  readonly mean: Float64Array;
  readonly covariance: Float64Array | undefined;
}

function statisticsOf(
  queries: Float32Array,
  headDim: number,
  turn: MeanTurn,
  hasCovariance: boolean,
): QueryStatistics {
  const count = queries.length / headDim;
  const mean = new Float64Array(headDim);
  queries.forEach((x, i) => {
    mean[i % headDim] = (mean[i % headDim] as number) + x / count;
  });
  const covariance = hasCovariance ? new Float64Array(headDim * headDim) : undefined;
  if (covariance !== undefined) {
    const row = new Float64Array(headDim);
    for (let q = 0; q < count; q++) {
      for (let d = 0; d < headDim; d++) {
        row[d] = (queries[q * headDim + d] as number) - (mean[d] as number);
      }
      // R (q - mu): the covariance of turned rows is R Sigma R^T.
      turnByMean(row, turn);
      addOuterProduct(covariance, row, count);
    }
  }
  turnByMean(mean, turn);
  return { mean, covariance };
}

/** The lower triangle of row row^T / count; the upper one follows from it. */
function addOuterProduct(sum: Float64Array, row: Float64Array, count: number): void {
  const d = row.length;
  for (let i = 0; i < d; i++) {
    const factor = (row[i] as number) / count;
    for (let j = 0; j <= i; j++) {
      sum[i * d + j] = (sum[i * d + j] as number) + factor * (row[j] as number);
    }
  }
}

function logitsOf(
  { keys }: HeadRows,
  { mean, covariance }: QueryStatistics,
  { headDim, scale }: ScoreInput,
): Float64Array {
  const logits = new Float64Array(keys.length / headDim);
  for (let slot = 0; slot < logits.length; slot++) {
    const key = keys.subarray(slot * headDim, (slot + 1) * headDim);
    let dot = 0;
    for (let d = 0; d < headDim; d++) dot += (mean[d] as number) * (key[d] as number);
    const variance = covariance === undefined ? 0 : quadraticForm(covariance, key);
    logits[slot] = dot * scale + (variance * scale * scale) / 2;
  }
  return logits;
}

/** x^T S x of a symmetric S whose lower triangle is given. */
function quadraticForm(matrix: Float64Array, x: Float32Array): number {
  const d = x.length;
  let sum = 0;
  for (let i = 0; i < d; i++) {
    let row = 0;
    for (let j = 0; j < i; j++) row += (matrix[i * d + j] as number) * (x[j] as number);
    const own = x[i] as number;
    sum += own * (2 * row + (matrix[i * d + i] as number) * own);
  }
  return sum;
}

/** Softmax over the slots behind the sinks; 0 for those. */
function softmaxOf(logits: Float64Array, sinks: number): Float64Array {
  const most = logits.subarray(sinks).reduce((max, x) => Math.max(max, x), -Infinity);
  const weights = logits.map((x, slot) => (slot < sinks ? 0 : Math.exp(x - most)));
  const sum = weights.reduce((total, x) => total + x, 0);
  return weights.map((x) => (sum > 0 ? x / sum : 0));
}
