import type { LayerScores, ScoreInput, ScorePart } from "../cache/method.js";
import { reduceScores } from "../cache/reduce-scores.js";
import { argumentError } from "../errors.js";
import { Tensor } from "../tensor.js";

/** Options of {@link accumulatedAttention}. */
export interface AccumulatedAttentionOptions {
  /** "none" (default, paper): the sum; "causalCount": divided by the number of queries that could see the slot. */
  readonly normalize?: "none" | "causalCount";
  /** Query heads of a KV head: their sum (default; the mean ranks alike) or their max. */
  readonly group?: "sum" | "max";
  /** "layer": one ranking for all heads of a layer. Default "kv-head". */
  readonly scope?: "kv-head" | "layer";
}

/**
 * Ranks a slot by all the attention that it ever got, of the prompt's queries and of every decoded token's.
 *
 *   S[h, k] = sum over all queries q so far of softmax(q K^T / sqrt(d))[h, q, k]
 *
 * attend adds the sums up as it goes; sums of dropped slots are dropped with them.
 *
 * @source H2O, arXiv 2306.14048, section 4; "causalCount" is the mean that kvpress calls observed attention.
 *
 * Differs from the reference code: per KV head under GQA (the reference supports none).
 *
 * Cost: 4 bytes a slot and row, a few percent of attend. Sums come from attend, which is not bit-equal on every
 * backend: slots whose sums differ in the last bits may rank otherwise. Not when old slots should not win by age alone;
 * "causalCount" takes the age out.
 *
 * @throws {SpindleKVError} ERR_SPINDLEKV_ARGUMENT when an option is out of range
 */
export function accumulatedAttention(options: AccumulatedAttentionOptions = {}): ScorePart {
  const { normalize = "none", group = "sum", scope = "kv-head" } = options;
  const op = "accumulatedAttention";
  if (normalize !== "none" && normalize !== "causalCount") {
    throw argumentError(op, '"none" or "causalCount"', "normalize", normalize);
  }
  if (group !== "sum" && group !== "max") throw argumentError(op, '"sum" or "max"', "group", group);
  if (scope !== "kv-head" && scope !== "layer") {
    throw argumentError(op, '"kv-head" or "layer"', "scope", scope);
  }
  return Object.freeze({
    id: "accumulated-attention",
    source: "sums",
    needs: Object.freeze(["attention sums"] as const),
    options: Object.freeze({ normalize, group, scope }),
    window: 0,
    sums: group === "max" ? "query-head" : "kv-head",
    rank: (input) => rankBySums(input, normalize, group, scope),
  } satisfies ScorePart);
}

async function rankBySums(
  input: ScoreInput,
  normalize: "none" | "causalCount",
  group: "sum" | "max",
  scope: "kv-head" | "layer",
): Promise<LayerScores> {
  using sums = input.sums();
  using means = normalize === "causalCount" ? await divideByCount(input, sums) : undefined;
  const perRow = means ?? sums;
  // Sums over the group have one row a KV head already.
  const perGroup = (perRow.shape[0] as number) / input.kvHeads;
  const reduction = { pool: null, group, scope };
  return await reduceScores({ ...input, group: perGroup, recent: 0 }, perRow, reduction);
}

/** A slot at position p was seen by the queries at p and later: tokens - p of them. */
async function divideByCount(input: ScoreInput, sums: Tensor<"f32">): Promise<Tensor<"f32">> {
  const { device, kvHeads, longest, tokens } = input;
  const positions = await input.positions();
  const means = await sums.read();
  const rows = means.length / longest;
  for (let row = 0; row < rows; row++) {
    const seen = positions[Math.floor((row * kvHeads) / rows)] as Int32Array;
    seen.forEach((position, slot) => {
      const at = row * longest + slot;
      means[at] = (means[at] as number) / (tokens - position);
    });
  }
  return Tensor.from(device, "f32", [rows, longest], means);
}
