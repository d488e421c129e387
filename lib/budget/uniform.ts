import type { ShapeBudget } from "../cache/method.js";
import { largestRemainder } from "./largest-remainder.js";

/**
 * Every layer and head keeps the same number of slots; a total that does not divide gives the first layers one more.
 *
 *   k_l = total / L
 *
 * Cost: none. Not when layers differ much in what they need.
 */
export function uniform(): ShapeBudget {
  return Object.freeze({
    id: "uniform",
    kind: "shape",
    needs: Object.freeze([]),
    options: Object.freeze({}),
    plan: (total, { layers, context }) =>
      largestRemainder(new Array<number>(layers).fill(1), total, context),
  } satisfies ShapeBudget);
}
