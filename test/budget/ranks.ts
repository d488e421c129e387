// Ranks in one process: everyone waits until all have given their numbers, and gets the sums.

export interface Exchange {
  readonly allReduce: (rank: number, values: Float64Array) => Promise<Float64Array>;
  /** Length of every array exchanged, in order. */
  readonly lengths: number[];
}

/**
 * Element-wise sums over `size` ranks, added in the order of the ranks.
 *
 * @throws when the ranks do not exchange equally many numbers
 */
export function allReduceOf(size: number): Exchange {
  const lengths: number[] = [];
  let given: (Float64Array | undefined)[] = [];
  let waiting: ((sums: Float64Array) => void)[] = [];
  return {
    lengths,
    allReduce: (rank, values) => {
      if (given[rank] !== undefined) throw new Error(`rank ${rank} is ahead of the others`);
      given[rank] = values.slice();
      const result = new Promise<Float64Array>((resolve) => {
        waiting[rank] = resolve;
      });
      const parts = given.filter((part) => part !== undefined);
      if (parts.length === size) {
        if (parts.some((part) => part.length !== values.length)) {
          throw new Error(`ranks exchange ${parts.map((part) => part.length).join(", ")} numbers`);
        }
        lengths.push(values.length);
        const sums = values.map((_, i) => parts.reduce((sum, part) => sum + part[i], 0));
        for (const resolve of waiting) resolve(sums.slice());
        given = [];
        waiting = [];
      }
      return result;
    },
  };
}
