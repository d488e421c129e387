// Oracle of rope: pair i of a row turns by the angle of (to - from), read from the table at |to - from|
// with the sine's sign following. (x, y) -> (x cos - y sin, y cos + x sin).
import { rotatePair } from "./float32.ts";
import { type FloatDType, roundTo } from "./float-formats.ts";
import type { RopeValues } from "./types.ts";

export interface RopeCase {
  readonly x: Float32Array; // [heads, tokens, D]
  readonly heads: number;
  readonly tokens: number;
  readonly headDim: number;
  readonly positionsFrom?: Int32Array;
  readonly positionsTo?: Int32Array;
  readonly rope: RopeValues;
}

/** Indices of the two members of pair i. */
export function pairOf(i: number, rope: RopeValues): [number, number] {
  return rope.style === "norm" ? [2 * i, 2 * i + 1] : [i, i + rope.nRot / 2];
}

function angleOf(rope: RopeValues, position: number, i: number): [number, number] {
  const at = (Math.abs(position) * (rope.nRot / 2) + i) * 2;
  const sine = rope.cosSin[at + 1];
  return [rope.cosSin[at], position < 0 ? -sine : sine];
}

/** Row turned by position, in float64. */
export function rotateRow(
  row: ArrayLike<number>,
  position: number,
  rope: RopeValues,
): Float64Array {
  const turned = new Float64Array(row);
  for (let i = 0; i < rope.nRot / 2; i++) {
    const [a, b] = pairOf(i, rope);
    const [c, s] = angleOf(rope, position, i);
    turned[a] = row[a] * c - row[b] * s;
    turned[b] = row[b] * c + row[a] * s;
  }
  return turned;
}

/** The same in the canonical float32 order. */
export function rotateRowTwin(
  row: ArrayLike<number>,
  position: number,
  rope: RopeValues,
): Float64Array {
  const turned = new Float64Array(row);
  for (let i = 0; i < rope.nRot / 2; i++) {
    const [a, b] = pairOf(i, rope);
    const [c, s] = angleOf(rope, position, i);
    [turned[a], turned[b]] = rotatePair(row[a], row[b], c, s);
  }
  return turned;
}

function apply(
  values: RopeCase,
  turn: (row: ArrayLike<number>, position: number, rope: RopeValues) => Float64Array,
): Float64Array {
  const { heads, tokens, headDim, positionsFrom, positionsTo, rope } = values;
  const result = new Float64Array(heads * tokens * headDim);
  for (let h = 0; h < heads; h++) {
    for (let t = 0; t < tokens; t++) {
      const start = (h * tokens + t) * headDim;
      const row = values.x.subarray(start, start + headDim);
      const delta = (positionsTo?.[t] ?? 0) - (positionsFrom?.[t] ?? 0);
      result.set(turn(row, delta, rope), start);
    }
  }
  return result;
}

export function ropeOracle(values: RopeCase): Float64Array {
  return apply(values, rotateRow);
}

/** Computed in float32, rounded once to dtype: the bits every backend must give. */
export function ropeTwin(values: RopeCase, dtype: FloatDType): Float32Array {
  return Float32Array.from(apply(values, rotateRowTwin), (x) => roundTo(dtype, x));
}
