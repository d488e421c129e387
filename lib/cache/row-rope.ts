/** RoPE on rows in host memory, for scorers that read rows instead of driving ops. */
import { native } from "../native.js";
import type { KVCacheOptions } from "./cache-options.js";

/** How a cache's rows turn. */
export interface RowRope {
  /** "norm": adjacent pairs; "neox": pairs of the two halves. */
  readonly style: "norm" | "neox";
  /** Leading dims that turn. */
  readonly nRot: number;
  /** Cosines and sines of the positions 0 .. positions - 1, [positions, nRot / 2, 2] f32: those of the ops. */
  readonly angles: (positions: number) => Float32Array;
}

/** undefined: rows come turned, and how is not known. */
export function rowRopeOf({ rope, headDim }: KVCacheOptions): RowRope | undefined {
  if (rope === undefined) return undefined;
  const { style, nRot = headDim } = rope;
  return {
    style,
    nRot,
    angles: (positions) => native().makeRopeAngles({ ...rope, nRot, positions }),
  };
}

/** The two dims of pair i. */
export function pairOf({ style, nRot }: RowRope, i: number): [number, number] {
  return style === "norm" ? [2 * i, 2 * i + 1] : [i, i + nRot / 2];
}

/** Turns row r of [rows, headDim] by `positions[r]` (below 0: not at all), in place, rounded once to f32. */
export function turnRows(
  rows: Float32Array,
  headDim: number,
  positions: ArrayLike<number>,
  rope: RowRope,
): void {
  const most = Array.from(positions).reduce((max, position) => Math.max(max, position), 0);
  const angles = rope.angles(most + 1);
  for (let row = 0; row < positions.length; row++) {
    if ((positions[row] as number) < 0) continue;
    for (let i = 0; i < rope.nRot / 2; i++) {
      const [a, b] = pairOf(rope, i).map((dim) => row * headDim + dim) as [number, number];
      const at = ((positions[row] as number) * (rope.nRot / 2) + i) * 2;
      const cos = angles[at] as number;
      const sin = angles[at + 1] as number;
      const x = rows[a] as number;
      const y = rows[b] as number;
      rows[a] = x * cos - y * sin;
      rows[b] = y * cos + x * sin;
    }
  }
}
