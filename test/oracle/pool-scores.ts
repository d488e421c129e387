// Oracle of pool_scores: out[r,i] = max or mean of in[r,j] over |j - i| <= kernel/2 inside the row's length.
import { fround } from "./float32.ts";

export interface PoolCase {
  readonly rows: readonly Float32Array[]; // the elements inside each row's length
  readonly kernel: number;
  readonly kind: "mean" | "max";
  readonly divisor: "kernel" | "valid";
}

function pool(values: PoolCase, round: (x: number) => number): Float64Array[] {
  const half = (values.kernel - 1) / 2;
  return values.rows.map((row) =>
    Float64Array.from(row, (_, i) => {
      const first = Math.max(0, i - half);
      const last = Math.min(row.length - 1, i + half);
      let result = row[first];
      for (let j = first + 1; j <= last; j++) {
        if (values.kind === "mean") result = round(result + row[j]);
        else if (Number.isNaN(row[j]) || row[j] > result) result = row[j];
      }
      if (values.kind === "max") return result;
      return round(result / (values.divisor === "kernel" ? values.kernel : last - first + 1));
    }),
  );
}

export const poolScoresOracle = (values: PoolCase): Float64Array[] => pool(values, (x) => x);
export const poolScoresTwin = (values: PoolCase): Float64Array[] => pool(values, fround);
