// Oracle of reduce_group: out[k,i] = max, sum or mean of in[k * group + g, i] over g ascending.
import { fround } from "./float32.ts";

export interface ReduceGroupCase {
  readonly rows: readonly Float32Array[]; // rows * group rows
  readonly group: number;
  readonly kind: "mean" | "max" | "sum";
}

function reduce(values: ReduceGroupCase, round: (x: number) => number): Float64Array[] {
  const { rows, group, kind } = values;
  const result: Float64Array[] = [];
  for (let k = 0; k < rows.length / group; k++) {
    const members = rows.slice(k * group, (k + 1) * group);
    result.push(
      Float64Array.from(members[0], (first, i) => {
        let value = first;
        for (const row of members.slice(1)) {
          if (kind !== "max") value = round(value + row[i]);
          else if (Number.isNaN(row[i]) || row[i] > value) value = row[i];
        }
        return kind === "mean" ? round(value / group) : value;
      }),
    );
  }
  return result;
}

export const reduceGroupOracle = (values: ReduceGroupCase): Float64Array[] =>
  reduce(values, (x) => x);
export const reduceGroupTwin = (values: ReduceGroupCase): Float64Array[] => reduce(values, fround);
