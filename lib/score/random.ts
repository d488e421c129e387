import type { ScorePart } from "../cache/method.js";
import { argumentError } from "../errors.js";
import { Tensor } from "../tensor.js";

/** Options of {@link random}. */
export interface RandomOptions {
  /** Integer in [0, 2^31). Default 0. */
  readonly seed?: number;
}

/**
 * Ranks by chance: the floor that any ranking must be above. A slot's number follows from the seed, its layer, head and
 * position alone, so it stays the same from one compression to the next.
 *
 * @throws {SpindleKVError} ERR_SPINDLEKV_ARGUMENT when seed is not an integer in [0, 2^31)
 */
export function random(options: RandomOptions = {}): ScorePart {
  const seed = options.seed ?? 0;
  if (!Number.isInteger(seed) || seed < 0 || seed >= 2 ** 31) {
    throw argumentError("random", "an integer in [0, 2^31)", "seed", seed);
  }
  return Object.freeze({
    id: "random",
    source: "random",
    needs: Object.freeze(["positions"] as const),
    options: Object.freeze({ seed }),
    window: 0,
    sums: "none",
    rank: async (input) => {
      const { device, kvHeads, firstHead, layer, lengths, longest } = input;
      const scores = new Float32Array(kvHeads * longest);
      for (const [head, positions] of (await input.positions()).entries()) {
        const stream = mix(mix(seed ^ 0x5bd1e995, layer), firstHead + head);
        positions.forEach((position, slot) => {
          // 24 bits are exact in f32.
          scores[head * longest + slot] = (mix(stream, position) >>> 8) / 2 ** 24;
        });
      }
      return { scores: Tensor.from(device, "f32", [kvHeads, longest], scores), lengths, group: 1 };
    },
  } satisfies ScorePart);
}

/** Two 32-bit numbers to one in which every bit depends on all of theirs (the finaliser of MurmurHash3). */
function mix(a: number, b: number): number {
  let hash = Math.imul(a, 0x9e3779b1) ^ Math.imul(b + 1, 0x85ebca77);
  hash = Math.imul(hash ^ (hash >>> 16), 0x85ebca6b);
  hash = Math.imul(hash ^ (hash >>> 13), 0xc2b2ae35);
  return (hash ^ (hash >>> 16)) >>> 0;
}
