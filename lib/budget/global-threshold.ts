/**
 * The best k of all rows together, as counts per row: what "global top-k over heads (and layers)" means, without a
 * sort and without the scores leaving their rank.
 *
 * Larger score first; equal scores: the earlier layer, then the earlier rank, row and slot. NaN comes last.
 * The threshold is found digit by digit (radix 256) over the scores' bits; ranks exchange the 256 counts of a digit,
 * four times, and once the number of equal scores of each layer and rank.
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
  const flat = keys.flat();
  const own = flat.reduce((sum, row) => sum + row.length, 0);
  const all = (await ranks.sumOverRanks(Float64Array.of(own)))[0] as number;
  if (k >= all) return keys.map((rows) => rows.map((row) => row.length));
  if (k <= 0) return keys.map((rows) => rows.map(() => 0));
  let threshold = 0;
  let left = k;
  for (let shift = 24; shift >= 0; shift -= 8) {
    const digits = await ranks.sumOverRanks(histogram(flat, threshold, shift));
    let digit = 255;
    while (digit > 0 && (digits[digit] as number) < left) {
      left -= digits[digit] as number;
      digit -= 1;
    }
    threshold = (threshold | (digit << shift)) >>> 0;
  }
  // `left` of the scores equal to the threshold are taken, the first ones.
  const equal = keys.map((rows) => rows.map((row) => countIf(row, (key) => key === threshold)));
  const taken = await takeFirst(equal, left, ranks);
  return keys.map((rows, layer) =>
    rows.map((row, index) => {
      const above = countIf(row, (key) => key > threshold);
      return above + (taken[layer]?.[index] as number);
    }),
  );
}

function countIf(row: Uint32Array, accepts: (key: number) => boolean): number {
  let count = 0;
  for (const key of row) if (accepts(key)) count += 1;
  return count;
}

/** Of `equal[layer][row]` candidates on every rank the first `left`, layer by layer and in a layer rank by rank. */
async function takeFirst(
  equal: readonly (readonly number[])[],
  left: number,
  { rank, ranks, sumOverRanks }: RowRanks,
): Promise<number[][]> {
  const own = new Float64Array(equal.length * ranks);
  equal.forEach((rows, layer) => {
    own[layer * ranks + rank] = rows.reduce((a, b) => a + b, 0);
  });
  const counts = await sumOverRanks(own);
  let before = 0;
  return equal.map((rows, layer) => {
    const here = counts.subarray(layer * ranks, (layer + 1) * ranks);
    const ahead = before + here.subarray(0, rank).reduce((a, b) => a + b, 0);
    before += here.reduce((a, b) => a + b, 0);
    let rest = Math.max(0, left - ahead);
    return rows.map((count) => {
      const taken = Math.min(rest, count);
      rest -= taken;
      return taken;
    });
  });
}

/** How many keys that begin like `prefix` have each digit at `shift`. */
function histogram(keys: readonly Uint32Array[], prefix: number, shift: number): Float64Array {
  const counts = new Float64Array(256);
  // Shifting by 32 would shift by 0.
  const isWhole = shift === 24;
  for (const row of keys) {
    for (const key of row) {
      if (!isWhole && key >>> (shift + 8) !== prefix >>> (shift + 8)) continue;
      counts[(key >>> shift) & 255] = (counts[(key >>> shift) & 255] as number) + 1;
    }
  }
  return counts;
}
