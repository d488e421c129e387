/**
 * The short way into `attend`: V8 reads properties in nanoseconds, native code in a tenth of a microsecond each. So
 * the plain cases become one array of numbers here, in which tensors stand by their handles. Whatever else there is,
 * right or wrong, goes the long way (binding/ops/attend.cc), which reads the object and says what is wrong with it.
 */
import { native } from "../native.js";
import { Tensor } from "../tensor.js";
import type { AttendParams } from "./attend.js";
import type { Run } from "./types.js";

// As binding/attend_by_numbers.cc reads them.
const kFixedNumbers = 13;
const kRunNumbers = 7;
const kNone = -1;
const kMostNumbers = 1 << 16;

// The one that is filled; a call from within a getter takes its own.
let spare: Float64Array | undefined;

const handleOrNone = (tensor: unknown) => (tensor === undefined ? kNone : Tensor.handleOf(tensor));

/** 0 or 1; NaN for what is no boolean. */
const flag = (value: unknown, missing: number) =>
  value === undefined ? missing : value === true ? 1 : value === false ? 0 : Number.NaN;

const number = (value: unknown, missing: number) =>
  value === undefined ? missing : typeof value === "number" ? value : Number.NaN;

function countNumbers(heads: readonly (readonly Run[])[]): number {
  let count = kFixedNumbers;
  for (const runs of heads) count += 1 + kRunNumbers * runs.length;
  return count;
}

/** Whether the call was a plain case, and has run. */
export function attendByNumbers(params: AttendParams): boolean {
  const { heads, rope, queryPosition } = params ?? {};
  if (!Array.isArray(heads) || !heads.every(Array.isArray)) return false;
  const count = countNumbers(heads);
  if (count > kMostNumbers) return false;
  const numbers =
    spare !== undefined && spare.length >= count ? spare : new Float64Array(2 * count);
  spare = undefined;
  const isPlain = fill(numbers, params, heads, queryPosition, rope);
  const isDone = isPlain && native().attendByNumbers(numbers, count);
  spare = numbers;
  return isDone;
}

function fill(
  numbers: Float64Array,
  params: AttendParams,
  heads: readonly (readonly Run[])[],
  queryPosition: number,
  rope: AttendParams["rope"],
): boolean {
  const { scale, lse, scoreSum, scoreMode } = params;
  if (scale !== undefined && !Number.isFinite(scale)) return false;
  numbers[0] = Tensor.handleOf(params.q);
  numbers[1] = Tensor.handleOf(params.out);
  numbers[2] = heads.length;
  numbers[3] = scale ?? Number.NaN;
  numbers[4] = flag(params.causal, 1);
  numbers[5] = number(queryPosition, Number.NaN);
  numbers[6] = number(params.ropeQueryPosition, queryPosition);
  numbers[7] = flag(params.reindex, 0);
  numbers[8] = kNone;
  numbers[9] = 0;
  if (rope !== undefined) {
    if (rope === null || (rope.style !== "norm" && rope.style !== "neox")) return false;
    numbers[8] = Tensor.handleOf(rope.table);
    numbers[9] = rope.style === "norm" ? 0 : 1;
    if (numbers[8] < 0) return false;
  }
  numbers[10] = handleOrNone(lse);
  numbers[11] = handleOrNone(scoreSum);
  numbers[12] = scoreMode === "query-head" ? 1 : scoreMode === "kv-head" ? 2 : 0;
  if (lse !== undefined && numbers[10] < 0) return false;
  if (scoreSum !== undefined && numbers[11] < 0) return false;
  if ((scoreSum === undefined) !== (scoreMode === undefined)) return false;
  if (scoreMode !== undefined && numbers[12] === 0) return false;
  let at = kFixedNumbers;
  for (const runs of heads) {
    numbers[at++] = runs.length;
    for (const run of runs) {
      if (run?.codec !== "raw") return false;
      const { mask, beta } = run;
      numbers[at] = Tensor.handleOf(run.k);
      numbers[at + 1] = Tensor.handleOf(run.v);
      numbers[at + 2] = Tensor.handleOf(run.positions);
      numbers[at + 3] = run.slots === undefined ? kNone : flaggedCount(run.slots);
      numbers[at + 4] = flag(run.rotated, 0);
      numbers[at + 5] = handleOrNone(mask);
      numbers[at + 6] = handleOrNone(beta);
      if (mask !== undefined && numbers[at + 5] < 0) return false;
      if (beta !== undefined && numbers[at + 6] < 0) return false;
      at += kRunNumbers;
    }
  }
  return true;
}

/** A number of slots; NaN for what cannot be one, so that it is not taken for "none given". */
function flaggedCount(slots: unknown): number {
  return typeof slots === "number" && slots >= 0 ? slots : Number.NaN;
}
