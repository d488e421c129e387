// Oracle of select_topk: sort every row's unprotected slots by (score descending, index ascending, NaN last)
// and take the first k; protected slots (sinks, recent) come on top. Result: ascending indices.

export interface SelectCase {
  readonly rows: readonly Float32Array[]; // the scores inside each row's length
  readonly k: readonly number[]; // one per row, or one per set of poolRows rows
  readonly sinks?: number;
  readonly recent?: number;
  readonly poolRows?: number;
  readonly floor?: number;
  readonly unionGroup?: number;
}

export interface Selection {
  readonly indices: number[];
  /** Bit g: row g of the union selected it. */
  readonly masks: number[];
}

// Negative when a goes first. -0 and +0 are the same score.
function compareScores(a: number, b: number): number {
  if (Number.isNaN(a)) return Number.isNaN(b) ? 0 : 1;
  if (Number.isNaN(b)) return -1;
  return a > b ? -1 : a < b ? 1 : 0;
}

export function selectTopkOracle(values: SelectCase): Selection[] {
  const { rows, k, sinks = 0, recent = 0, poolRows = 1, floor = 0, unionGroup = 1 } = values;
  const isProtected = (row: Float32Array, i: number) => i < sinks || i >= row.length - recent;
  const ranked = rows.map((row) =>
    Array.from(row.keys())
      .filter((i) => !isProtected(row, i))
      .sort((a, b) => compareScores(row[a], row[b]) || a - b),
  );
  const chosen = rows.map((row) => new Set([...row.keys()].filter((i) => isProtected(row, i))));

  for (let first = 0; first < rows.length; first += poolRows) {
    const total = k[first / poolRows];
    if (poolRows === 1) {
      for (const i of ranked[first].slice(0, total)) chosen[first].add(i);
      continue;
    }
    const left: { row: number; index: number; score: number }[] = [];
    let spent = 0;
    for (let row = first; row < first + poolRows; row++) {
      ranked[row].forEach((index, rank) => {
        if (rank < floor) {
          chosen[row].add(index);
          spent += 1;
        } else {
          left.push({ row, index, score: rows[row][index] });
        }
      });
    }
    left.sort((a, b) => compareScores(a.score, b.score) || a.row - b.row || a.index - b.index);
    for (const slot of left.slice(0, Math.max(0, total - spent))) chosen[slot.row].add(slot.index);
  }

  const result: Selection[] = [];
  for (let first = 0; first < rows.length; first += unionGroup) {
    const group = chosen.slice(first, first + unionGroup);
    const indices = [...new Set(group.flatMap((set) => [...set]))].sort((a, b) => a - b);
    const masks = indices.map((i) =>
      group.reduce((mask, set, g) => (set.has(i) ? mask | (1 << g) : mask), 0),
    );
    result.push({ indices, masks });
  }
  return result;
}
