// Oracle of append_kv: rows are converted to the run's dtype (rounded once), keys optionally turned by
// their position in float32 before that, positions count up from the first. A key norm is the norm of
// the row as it is stored.
import { norm } from "./float32.ts";
import { type FloatDType, roundTo } from "./float-formats.ts";
import { rotateRow, rotateRowTwin } from "./rope.ts";
import type { RopeValues } from "./types.ts";

export interface AppendCase {
  readonly k: Float32Array; // [tokens, D], values that the source dtype holds
  readonly v: Float32Array;
  readonly tokens: number;
  readonly headDim: number;
  readonly dtype: FloatDType; // of the run
  readonly firstPosition: number;
  readonly rope?: RopeValues; // given: keys are rotated
}

export interface AppendResult {
  readonly k: Float32Array;
  readonly v: Float32Array;
  readonly positions: Int32Array;
  readonly keyNorms: Float32Array;
}

/** The bits that must be stored. */
export function appendKvTwin(values: AppendCase): AppendResult {
  const { tokens, headDim, dtype, rope } = values;
  const k = new Float32Array(tokens * headDim);
  const v = new Float32Array(tokens * headDim);
  const positions = new Int32Array(tokens);
  const keyNorms = new Float32Array(tokens);
  for (let t = 0; t < tokens; t++) {
    positions[t] = values.firstPosition + t;
    let row: Float64Array = new Float64Array(values.k.subarray(t * headDim, (t + 1) * headDim));
    if (rope !== undefined) row = rotateRowTwin(row, positions[t], rope);
    for (let d = 0; d < headDim; d++) {
      k[t * headDim + d] = roundTo(dtype, row[d]);
      v[t * headDim + d] = roundTo(dtype, values.v[t * headDim + d]);
    }
    keyNorms[t] = norm(k, t * headDim, headDim);
  }
  return { k, v, positions, keyNorms };
}

/** Keys and norms before any rounding, in float64. */
export function appendKvOracle(values: AppendCase): { k: Float64Array; keyNorms: Float64Array } {
  const { tokens, headDim, rope } = values;
  const k = new Float64Array(tokens * headDim);
  const keyNorms = new Float64Array(tokens);
  for (let t = 0; t < tokens; t++) {
    const row = new Float64Array(values.k.subarray(t * headDim, (t + 1) * headDim));
    const stored = rope === undefined ? row : rotateRow(row, values.firstPosition + t, rope);
    k.set(stored, t * headDim);
    keyNorms[t] = Math.sqrt(stored.reduce((sum, x) => sum + x * x, 0));
  }
  return { k, keyNorms };
}
