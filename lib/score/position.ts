import type { ScorePart } from "../cache/method.js";
import { Tensor } from "../tensor.js";

/**
 * Ranks by position alone: the newer, the better. Needs no attention and no keys.
 *
 * Cost: nothing. Not when the answer lies far back.
 */
export function position(): ScorePart {
  return Object.freeze({
    id: "position",
    source: "position",
    needs: Object.freeze(["positions"] as const),
    options: Object.freeze({}),
    window: 0,
    sums: "none",
    rank: async ({ device, kvHeads, lengths, longest }) => {
      const slots = Math.max(longest, 1);
      const ages = Float32Array.from({ length: kvHeads * slots }, (_, i) => i % slots);
      return { scores: Tensor.from(device, "f32", [kvHeads, slots], ages), lengths, group: 1 };
    },
  } satisfies ScorePart);
}
