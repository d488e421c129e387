/**
 * Which tokens of a forward pass still have a row in the residual stream, for pruning between layers
 * (PyramidInfer, arXiv 2405.12532: what a layer drops is gone for all deeper layers).
 */
import type { Run } from "./block.js";
import { callError } from "./failures.js";

/**
 * Says after a layer which rows of the residual stream go on to the next one.
 *
 * @param layer the layer that the whole prompt has just passed, from 0; never the last one
 * @param tokens the tokens that have a row, ascending, counted from the first one of this forward pass
 * @returns indices into `tokens` of those that stay, ascending, the last one among them; null for all
 */
export type Prune = (
  layer: number,
  tokens: Int32Array,
) => Int32Array | null | Promise<Int32Array | null>;

/** Runs of neighbours among rows `start` to `end` of `tokens`; gaps count from the row before `start`. */
export function runsOf(tokens: Int32Array, start: number, end: number): Run[] {
  const runs: { start: number; end: number; gap: number }[] = [];
  let reached = start === 0 ? 0 : tokens[start - 1] + 1;
  for (let row = start; row < end; row++) {
    const gap = tokens[row] - reached;
    const last = runs.at(-1);
    if (last !== undefined && gap === 0) last.end++;
    else runs.push({ start: row - start, end: row - start + 1, gap });
    reached = tokens[row] + 1;
  }
  return runs;
}

/** @throws Error unless `kept` are ascending indices below `rows`, the last one among them */
export function checkKept(layer: number, kept: Int32Array, rows: number): void {
  const isRight =
    kept instanceof Int32Array &&
    kept.at(-1) === rows - 1 &&
    kept[0] >= 0 &&
    kept.every((row, i) => i === 0 || row > kept[i - 1]);
  if (isRight) return;
  throw callError(
    `forward: expected ascending rows of 0 to ${rows - 1}, the last one among them, ` +
      `from prune after layer ${layer}, got ${kept}`,
  );
}
