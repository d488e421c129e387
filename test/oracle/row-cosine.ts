// Oracle of row_cosine: cosines[t] = cos(a_t, b_t), 0 where a row is zero; and its float32 twin in the order of
// core/canonical.h: 64 sums over the dims of a row, then halved; the cosines added up 64 at a time.
import * as f32 from "./float32.ts";
import { blockSumTwin } from "./key-stats.ts";

export interface RowPairs {
  readonly a: Float32Array; // [rows, width]
  readonly b: Float32Array;
  readonly rows: number;
  readonly width: number;
}

export interface RowCosines {
  readonly cosines: Float64Array; // [rows]
  readonly sum: number;
}

const kLanes = 64;

export function rowCosineOracle({ a, b, rows, width }: RowPairs): RowCosines {
  const dot = (x: Float32Array, y: Float32Array, row: number) => {
    let sum = 0;
    for (let i = row * width; i < (row + 1) * width; i++) sum += x[i] * y[i];
    return sum;
  };
  const cosines = Float64Array.from({ length: rows }, (_, t) => {
    const lengths = Math.sqrt(dot(a, a, t)) * Math.sqrt(dot(b, b, t));
    return lengths === 0 ? 0 : dot(a, b, t) / lengths;
  });
  return { cosines, sum: cosines.reduce((sum, x) => sum + x, 0) };
}

function wideDot(x: Float32Array, y: Float32Array, start: number, width: number): number {
  const lanes = new Float32Array(kLanes);
  for (let d = 0; d < width; d++) {
    lanes[d % kLanes] = f32.fmaf(x[start + d], y[start + d], lanes[d % kLanes]);
  }
  return f32.halvingSum64(lanes);
}

/** `before`: what the sum is added to. */
export function rowCosineTwin({ a, b, rows, width }: RowPairs, before = 0): RowCosines {
  const cosines = Float64Array.from({ length: rows }, (_, t) => {
    const at = t * width;
    const aNorm = f32.fround(Math.sqrt(wideDot(a, a, at, width)));
    const bNorm = f32.fround(Math.sqrt(wideDot(b, b, at, width)));
    if (aNorm === 0 || bNorm === 0) return 0;
    return f32.fround(f32.fround(wideDot(a, b, at, width) / aNorm) / bNorm);
  });
  return { cosines, sum: f32.fround(before + blockSumTwin(Array.from(cosines))) };
}
