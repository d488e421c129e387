import type { RawCodec } from "../cache/method.js";

/**
 * Kept slots stay rows of K and V in the cache's dtype.
 *
 * Cost: 2 * headDim elements and 4 bytes of position a slot.
 */
export function raw(): RawCodec {
  return Object.freeze({ id: "raw", needs: Object.freeze(["keys", "values"] as const) });
}
