import { lowestFirst } from "../cache/lowest-first.js";
import type { ScorePart } from "../cache/method.js";

/**
 * Ranks a slot by how little its key is like the others.
 *
 *   a    = mean over the head's slots of K / |K|
 *   s[k] = -cos(K[k], a)
 *
 * @source KeyDiff, arXiv 2504.15364, and kvpress.
 *
 * Cost: two passes over the keys, no queries. Not when many slots that matter are alike.
 */
export function keyDiff(): ScorePart {
  return Object.freeze({
    id: "key-diff",
    source: "keys",
    needs: Object.freeze(["keys"] as const),
    options: Object.freeze({}),
    window: 0,
    sums: "none",
    rank: lowestFirst("cosToMean"),
  } satisfies ScorePart);
}
