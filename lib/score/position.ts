import type { PositionScore } from "../cache/method.js";

/**
 * Ranks by position alone: the newer, the better. Needs no attention and no keys.
 *
 * Cost: nothing. Not when the answer lies far back.
 */
export function position(): PositionScore {
  return Object.freeze({
    id: "position",
    source: "position",
    needs: Object.freeze(["positions"] as const),
  });
}
