/**
 * The best k of all rows together, as counts per row: what "global top-k over heads (and layers)" means, without a
 * sort and without the scores leaving their rank.
 *
 * Larger score first; equal scores: the earlier layer, then the earlier rank, row and slot. NaN comes last.
 * The threshold is found digit by digit (radix 256) over the scores' bits; ranks exchange the 256 counts of a digit
 * for each layer, four times, and once the number of equal scores of each layer and rank.
 */

/** Ranks that share the rows: this one, how many, and the element-wise sum over them. */
export interface RowRanks {
  readonly rank: number;
  readonly ranks: number;
  readonly sumOverRanks: (values: Float64Array) => Promise<Float64Array>;
}

/** Unsigned integers in the order of the floats; -0 equals +0, NaN is 0 and below all others. */
function sortableBits(row: Float32Array): Uint32Array {
  const bits = new Uint32Array(row.length);
  const words = new Uint32Array(row.buffer, row.byteOffset, row.length);
  for (let i = 0; i < row.length; i++) {
    const value = row[i] as number;
    const word = value === 0 ? 0 : (words[i] as number);
    if (Number.isNaN(value)) bits[i] = 0;
    else bits[i] = word >= 0x8000_0000 ? ~word >>> 0 : (word | 0x8000_0000) >>> 0;
  }
  return bits;
}

/** A cut through all scores: those above it are taken, and of the equal ones of a row so many. */
interface Cut {
  readonly threshold: number;
  /** Taken of each layer's scores equal to the threshold, over all ranks. */
  readonly equal: readonly number[];
}

/**
 * Counts of each own row in the best `k` of the rows of all layers and ranks.
 *
 * @param layers own rows of each layer, in order
 * @param k how many of all rows; more than there are: all
 */
export async function globalCounts(
  layers: readonly (readonly Float32Array[])[],
  k: number,
  ranks: RowRanks,
): Promise<number[][]> {
  const keys = layers.map((rows) => rows.map(sortableBits));
  const { threshold, equal } = await findCut(keys, k, Number.POSITIVE_INFINITY, ranks);
  const candidates = keys.map((rows) =>
    rows.map((row) => countIf(row, (key) => key === threshold)),
  );
  const taken = await takeFirst(candidates, equal, ranks);
  return keys.map((rows, layer) =>
    rows.map((row, index) => {
      const above = countIf(row, (key) => key > threshold);
      return above + (taken[layer]?.[index] as number);
    }),
  );
}

/**
 * Counts of each layer, over all ranks, in the best `k` of all rows, where a layer whose `most` are taken is passed
 * over. With more layers no count grows.
 */
export async function cappedLayerCounts(
  layers: readonly (readonly Float32Array[])[],
  k: number,
  most: number,
  ranks: RowRanks,
): Promise<number[]> {
  const keys = layers.map((rows) => rows.map(sortableBits));
  const { threshold, equal } = await findCut(keys, k, most, ranks);
  const own = Float64Array.from(keys, (rows) =>
    rows.reduce((sum, row) => sum + countIf(row, (key) => key > threshold), 0),
  );
  const above = await ranks.sumOverRanks(own);
  return equal.map((count, layer) => Math.min(most, (above[layer] as number) + count));
}

/** The cut that leaves `k` scores, counting at most `most` of a layer. */
async function findCut(
  keys: readonly (readonly Uint32Array[])[],
  k: number,
  most: number,
  { sumOverRanks }: RowRanks,
): Promise<Cut> {
  // Scores of each layer that are above every one that still may be the threshold.
  const above = new Float64Array(keys.length);
  let threshold = 0;
  let equal = new Float64Array(keys.length);
  for (let shift = 24; shift >= 0; shift -= 8) {
    const digits = await sumOverRanks(histograms(keys, threshold, shift));
    const countOf = (layer: number, digit: number) => digits[layer * 256 + digit] as number;
    const taken = (digit: number) =>
      above.reduce((sum, count, layer) => sum + Math.min(most, count + countOf(layer, digit)), 0);
    let digit = 255;
    while (digit > 0 && taken(digit) < k) {
      above.forEach((count, layer) => {
        above[layer] = count + countOf(layer, digit);
      });
      digit -= 1;
    }
    threshold = (threshold | (digit << shift)) >>> 0;
    equal = above.map((_, layer) => countOf(layer, digit));
  }
  // What is missing comes from the scores equal to the threshold, the earlier layers' first.
  let left = k - above.reduce((sum, count) => sum + Math.min(most, count), 0);
  const taken = Array.from(equal, (count, layer) => {
    const room = Math.max(0, most - (above[layer] as number));
    const own = Math.max(0, Math.min(left, count, room));
    left -= own;
    return own;
  });
  return { threshold, equal: taken };
}

function countIf(row: Uint32Array, accepts: (key: number) => boolean): number {
  let count = 0;
  for (const key of row) if (accepts(key)) count += 1;
  return count;
}

/** Of `candidates[layer][row]` on every rank the first `wanted[layer]`, rank by rank. */
async function takeFirst(
  candidates: readonly (readonly number[])[],
  wanted: readonly number[],
  { rank, ranks, sumOverRanks }: RowRanks,
): Promise<number[][]> {
  const own = new Float64Array(candidates.length * ranks);
  candidates.forEach((rows, layer) => {
    own[layer * ranks + rank] = rows.reduce((a, b) => a + b, 0);
  });
  const counts = await sumOverRanks(own);
  return candidates.map((rows, layer) => {
    const ahead = counts.subarray(layer * ranks, layer * ranks + rank).reduce((a, b) => a + b, 0);
    let rest = Math.max(0, (wanted[layer] as number) - ahead);
    return rows.map((count) => {
      const taken = Math.min(rest, count);
      rest -= taken;
      return taken;
    });
  });
}

/** How many keys of each layer that begin like `prefix` have each digit at `shift`: [layers, 256]. */
function histograms(
  layers: readonly (readonly Uint32Array[])[],
  prefix: number,
  shift: number,
): Float64Array {
  const counts = new Float64Array(256 * layers.length);
  // Shifting by 32 would shift by 0.
  const isWhole = shift === 24;
  layers.forEach((rows, layer) => {
    const own = counts.subarray(256 * layer, 256 * (layer + 1));
    for (const row of rows) {
      for (const key of row) {
        if (!isWhole && key >>> (shift + 8) !== prefix >>> (shift + 8)) continue;
        own[(key >>> shift) & 255] = (own[(key >>> shift) & 255] as number) + 1;
      }
    }
  });
  return counts;
}
