import type { ScorePart } from "../cache/method.js";
import { reduceScores } from "../cache/reduce-scores.js";
import { argumentError } from "../errors.js";

/** Options of {@link lastQuery}. */
export interface LastQueryOptions {
  /** "layer" (default): one ranking for all heads of a layer; "kv-head": one for each KV head. */
  readonly scope?: "layer" | "kv-head";
  /** With scope "kv-head": how the query heads of a KV head share a ranking. Default "mean". */
  readonly group?: "unfold" | "mean" | "max" | "sum";
}

/**
 * Ranks a slot by the attention of the last query alone; nothing is pooled.
 *
 *   s[k] = mean over the layer's query heads of softmax(q_last K^T / sqrt(d))[k]
 *
 * @source TOVA, arXiv 2401.06104, section 3.2.
 *
 * Cost: one row of attention. Not when the last token is a template's and asks for nothing.
 *
 * @throws {SpindleKVError} ERR_SPINDLEKV_ARGUMENT when an option is out of range
 */
export function lastQuery(options: LastQueryOptions = {}): ScorePart {
  const { scope = "layer", group = "mean" } = options;
  if (scope !== "layer" && scope !== "kv-head") {
    throw argumentError("lastQuery", '"layer" or "kv-head"', "scope", scope);
  }
  if (!["unfold", "mean", "max", "sum"].includes(group)) {
    throw argumentError("lastQuery", '"unfold", "mean", "max" or "sum"', "group", group);
  }
  return Object.freeze({
    id: "last-query",
    source: "attention",
    needs: Object.freeze(["keys", "queries"] as const),
    options: Object.freeze({ scope, group }),
    window: 1,
    sums: "none",
    rank: async (input) => {
      using seen = await input.window({ window: 1 });
      return await reduceScores(input, seen.sum, { pool: null, group, scope });
    },
  } satisfies ScorePart);
}
