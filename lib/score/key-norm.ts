import { lowestFirst } from "../cache/lowest-first.js";
import type { ScorePart } from "../cache/method.js";

/**
 * Ranks a slot by how short its key is: short keys are those that get attention.
 *
 *   s[k] = -|K[k]|_2
 *
 * @source L2 norm, arXiv 2406.11430; what kvpress calls Knorm. RoPE does not change a norm.
 *
 * Cost: one pass over the keys, no queries. Not for models that normalise keys (QK-norm): little is left to tell the
 * slots apart.
 */
export function keyNorm(): ScorePart {
  return Object.freeze({
    id: "key-norm",
    source: "keys",
    needs: Object.freeze(["keys"] as const),
    options: Object.freeze({}),
    window: 0,
    sums: "none",
    rank: lowestFirst("kNorm"),
  } satisfies ScorePart);
}
