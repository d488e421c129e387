import type { LayerScores, ScoreInput, ScorePart } from "../cache/method.js";
import { argumentError } from "../errors.js";
import { Tensor } from "../tensor.js";

/** Options of {@link lagRelative}. */
export interface LagRelativeOptions {
  /** Slots of a block, 1 or more. Default 128. */
  readonly lag?: number;
  /** true: blocks compete with each other by their scores; false (default): each gives up equally many slots. */
  readonly crossScoring?: boolean;
}

/**
 * Ranks the slots of a block by how far their keys and values stray from the range of the block that follows.
 *
 *   x'     = (x - min of the next block) / (max - min of the next block)      per channel, over the block's slots
 *   e[k]   = softmax over the block of the standard deviation of x'[k] over channels
 *   s[k]   = (e_K[k] + e_V[k]) / 2, then its rank inside the block over the block's length
 *
 * Blocks begin behind the sinks. The last whole block and what follows have no next block: they rank above all others,
 * newest first. So do the slots of a head with fewer than two blocks.
 *
 * @source LagKV, arXiv 2504.04704, and kvpress.
 *
 * Differs from kvpress: a channel that does not change over the next block counts as 0 (there it divides by 0); equal
 * scores: the older slot ranks higher.
 *
 * Cost: keys and values are read back, decoded and ranked on the host. Not when what matters is alike over long
 * stretches.
 *
 * @throws {SpindleKVError} ERR_SPINDLEKV_ARGUMENT when an option is out of range
 */
export function lagRelative(options: LagRelativeOptions = {}): ScorePart {
  const { lag = 128, crossScoring = false } = options;
  if (!Number.isInteger(lag) || lag < 1) {
    throw argumentError("lagRelative", "an integer of 1 or more", "lag", lag);
  }
  if (typeof crossScoring !== "boolean") {
    throw argumentError("lagRelative", "a boolean", "crossScoring", crossScoring);
  }
  return Object.freeze({
    id: "lag-relative",
    source: "keys",
    needs: Object.freeze(["keys", "values"] as const),
    options: Object.freeze({ lag, crossScoring }),
    window: 0,
    sums: "none",
    rank: (input) => rankByLag(input, lag, crossScoring),
  } satisfies ScorePart);
}

async function rankByLag(
  input: ScoreInput,
  lag: number,
  crossScoring: boolean,
): Promise<LayerScores> {
  const { device, kvHeads, lengths, longest, sinks, headDim } = input;
  const scores = new Float32Array(kvHeads * longest);
  for (const [head, length] of lengths.entries()) {
    const { keys, values } = await input.rows(head);
    const own = scores.subarray(head * longest, head * longest + length);
    const blocks = Math.max(0, Math.floor((length - sinks) / lag) - 1);
    const end = Math.min(length, sinks + blocks * lag);
    for (let first = sinks; first < end; first += lag) {
      const ofKeys = strayOf(keys, headDim, first, lag);
      const ofValues = strayOf(values, headDim, first, lag);
      const means = ofKeys.map((key, i) => (key + (ofValues[i] as number)) / 2);
      own.set(crossScoring ? means : ranksOf(means), first);
    }
    for (let slot = end; slot < length; slot++) own[slot] = 1 + (slot - end) / length;
  }
  return { scores: Tensor.from(device, "f32", [kvHeads, longest], scores), lengths, group: 1 };
}

/** Softmax over the block's slots of how widely their channels lie in the ranges of the next block. */
function strayOf(rows: Float32Array, headDim: number, first: number, lag: number): Float64Array {
  const least = new Float64Array(headDim).fill(Number.POSITIVE_INFINITY);
  const most = new Float64Array(headDim).fill(Number.NEGATIVE_INFINITY);
  for (let slot = first + lag; slot < first + 2 * lag; slot++) {
    for (let d = 0; d < headDim; d++) {
      const x = rows[slot * headDim + d] as number;
      least[d] = Math.min(least[d] as number, x);
      most[d] = Math.max(most[d] as number, x);
    }
  }
  const spreads = Float64Array.from({ length: lag }, (_, i) => {
    const row = Float64Array.from(
      rows.subarray((first + i) * headDim, (first + i + 1) * headDim),
      (x, d) => {
        const range = (most[d] as number) - (least[d] as number);
        return range > 0 ? (x - (least[d] as number)) / range : 0;
      },
    );
    return standardDeviation(row);
  });
  return softmax(spreads);
}

/** Unbiased. */
function standardDeviation(values: Float64Array): number {
  const mean = values.reduce((sum, x) => sum + x, 0) / values.length;
  const squares = values.reduce((sum, x) => sum + (x - mean) ** 2, 0);
  return Math.sqrt(squares / Math.max(1, values.length - 1));
}

function softmax(logits: Float64Array): Float64Array {
  const most = logits.reduce((max, x) => Math.max(max, x), Number.NEGATIVE_INFINITY);
  const weights = logits.map((x) => Math.exp(x - most));
  const sum = weights.reduce((total, x) => total + x, 0);
  return weights.map((x) => x / sum);
}

/** Place of each value among all, ascending, over their number: 0 is the worst. */
function ranksOf(values: Float64Array): Float64Array {
  const order = Array.from(values, (_, i) => i);
  order.sort((a, b) => (values[a] as number) - (values[b] as number) || b - a);
  const ranks = new Float64Array(values.length);
  order.forEach((index, place) => {
    ranks[index] = place / values.length;
  });
  return ranks;
}
