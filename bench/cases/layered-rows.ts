/** Keys and values whose likeness falls with depth: what SpindleKV finds in models, and lives on. */
import type { Prng } from "../../test/harness/prng.ts";

/** Shares of a layer's rows that repeat a direction, first layer to last. */
export const kAlikeShares: readonly number[] = [0.9, 0.7, 0.45, 0.25];

const kDirections = 512;
/** Two rows of one direction have cosine 1 / (1 + spread^2): 0.99, above both of the method's thresholds. */
const kSpread = 0.1;

/**
 * Values of `[heads, rows, headDim]`: a share of the rows lies near one of 512 directions of its head, the
 * rest is normal noise, where no two rows are alike.
 */
export function layeredRows(
  random: Prng,
  shape: { readonly heads: number; readonly rows: number; readonly headDim: number },
  alike: number,
): Float32Array {
  const { heads, rows, headDim } = shape;
  const normals = Float32Array.from({ length: 1 << 16 }, () => random.normal());
  const noise = () => normals[random.integer(0, normals.length - 1)];
  const result = new Float32Array(heads * rows * headDim);
  for (let head = 0; head < heads; head++) {
    const directions = Float32Array.from({ length: kDirections * headDim }, () => random.normal());
    for (let row = 0; row < rows; row++) {
      const at = (head * rows + row) * headDim;
      const direction = random.integer(0, kDirections - 1) * headDim;
      const isAlike = random.uniform() < alike;
      for (let d = 0; d < headDim; d++) {
        result[at + d] = isAlike ? directions[direction + d] + kSpread * noise() : noise();
      }
    }
  }
  return result;
}
