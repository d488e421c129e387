// Runs attend on seeded values and compares everything it gives with the float64 oracle, under the rule that the
// error is at most twice that of a naive implementation in the same dtype, plus a floor (tolerance.ts).
import type { AttendResult } from "../oracle/attend.ts";
import type { FloatDType } from "../oracle/float-formats.ts";
import { type QueryValues, slotsOf } from "../oracle/types.ts";
import { type AttendParams, ops, type Tensor } from "./api.ts";
import { invoke } from "./backends.ts";
import { compareWithin } from "./compare.ts";
import { largestValueOf, logitScaleOf, placeHeads, placeRope } from "./heads.ts";
import type { Layout } from "./layouts.ts";
import { attendNaive, attendOracle } from "./oracles.ts";
import { type Arena, readNumbers } from "./tensors.ts";
import { attentionBound, lseBound, scoreSumBound } from "./tolerance.ts";

export interface AttendSetting {
  readonly dtype: FloatDType;
  readonly qDtype: FloatDType;
  readonly layout?: Layout;
  readonly refBytes?: 2 | 4;
  readonly slotsBefore?: number;
  readonly scoreMode?: "query-head" | "kv-head";
  /** Start values of every element of scoreSum. */
  readonly scoreStart?: number;
}

export interface AttendOutputs {
  readonly params: AttendParams;
  readonly out: ArrayLike<number>;
  readonly lse: ArrayLike<number>;
  readonly scoreSum?: ArrayLike<number>;
}

/** Places the tensors of one call but those of the heads and of RoPE. */
export function placeQueries(
  arena: Arena,
  values: QueryValues,
  setting: AttendSetting,
): Omit<AttendParams, "heads" | "rope"> {
  const { headDim, group, queries, heads } = values;
  const { qDtype, layout = "contiguous" } = setting;
  const queryHeads = heads.length * group;
  const shape = [queryHeads, queries, headDim];
  const slots = Math.max(1, ...heads.map(slotsOf));
  const rows = setting.scoreMode === "kv-head" ? heads.length : queryHeads;
  const start = new Float32Array(rows * slots).fill(setting.scoreStart ?? 0);
  return {
    q: arena.input(qDtype, shape, values.q, { layout, name: "q" }),
    out: arena.output(qDtype, shape, { layout, name: "out" }),
    lse: arena.output("f32", [queryHeads, queries], { name: "lse" }),
    scale: values.scale,
    causal: values.causal,
    queryPosition: values.queryPosition,
    ropeQueryPosition: values.ropeQueryPosition,
    reindex: values.reindex,
    ...(setting.scoreMode && {
      scoreMode: setting.scoreMode,
      scoreSum: arena.output("f32", [rows, slots], { layout, data: start, name: "scoreSum" }),
    }),
  };
}

/** Places the tensors of one call in the arena. */
export function placeAttend(
  arena: Arena,
  values: QueryValues,
  setting: AttendSetting,
): AttendParams {
  return {
    ...placeQueries(arena, values, setting),
    heads: placeHeads(arena, values.heads, setting.dtype, values.headDim, setting),
    ...(values.rope && { rope: placeRope(arena, values.rope) }),
  };
}

export async function readAttend(params: AttendParams): Promise<AttendOutputs> {
  return {
    params,
    out: await readNumbers(params.out),
    lse: await readNumbers(params.lse as Tensor),
    ...(params.scoreSum && { scoreSum: await readNumbers(params.scoreSum) }),
  };
}

/** Runs the op once and gives back what it wrote. */
export async function runAttend(
  arena: Arena,
  values: QueryValues,
  setting: AttendSetting,
): Promise<AttendOutputs> {
  const params = placeAttend(arena, values, setting);
  await invoke(arena.random, ops.attend, params);
  return readAttend(params);
}

function largestError(
  got: ArrayLike<number>,
  expected: Float64Array,
  from: number,
  to: number,
): number {
  let largest = 0;
  for (let i = from; i < to; i++) largest = Math.max(largest, Math.abs(got[i] - expected[i]));
  return largest;
}

function rootMeanSquare(got: ArrayLike<number>, expected: Float64Array): number {
  let squares = 0;
  for (let i = 0; i < expected.length; i++) squares += (got[i] - expected[i]) ** 2;
  return Math.sqrt(squares / Math.max(1, expected.length));
}

/** Compares out, lse and score sums; `calls` is how often the same call was accumulated. */
export function compareAttend(
  values: QueryValues,
  setting: AttendSetting,
  got: AttendOutputs,
  calls = 1,
  expected: AttendResult = attendOracle(values),
): AttendResult {
  const { headDim, group, queries, heads } = values;
  const naive = attendNaive(values, setting.dtype, setting.qDtype);
  const logits = logitScaleOf(values);
  const scaleOf = (head: number, from: number) => ({
    ...logits,
    dtype: setting.dtype,
    outDtype: setting.qDtype,
    largestOutput: expected.out
      .slice(from, from + headDim)
      .reduce((a, b) => Math.max(a, Math.abs(b)), 0),
    largestValue: largestValueOf(heads[Math.floor(head / group)]),
  });
  const rowBounds: number[] = [];
  for (let row = 0; row < heads.length * group * queries; row++) {
    const from = row * headDim;
    const error = largestError(naive.out, expected.out, from, from + headDim);
    rowBounds.push(attentionBound(error, scaleOf(Math.floor(row / queries), from)));
  }
  const rms = Math.sqrt(
    rowBounds.reduce((sum, b) => sum + b * b, 0) / Math.max(1, rowBounds.length),
  );
  compareWithin("out", got.out, expected.out, {
    element: (i) => rowBounds[Math.floor(i / headDim)],
    rms: 2 * rootMeanSquare(naive.out, expected.out) + rms,
    dtype: setting.qDtype,
  });
  compareWithin("lse", got.lse, expected.lse, {
    element: (i) => {
      const error = Math.abs(naive.lse[i] - expected.lse[i]);
      return lseBound(expected.lse[i], Number.isFinite(error) ? error : 0, logits);
    },
  });
  if (got.scoreSum === undefined) return expected;
  const isKvMode = setting.scoreMode === "kv-head";
  const rows = isKvMode ? expected.kvHeadScores : expected.queryHeadScores;
  const naiveRows = isKvMode ? naive.kvHeadScores : naive.queryHeadScores;
  const width = got.scoreSum.length / Math.max(1, rows.length);
  const start = setting.scoreStart ?? 0;
  const terms = calls * queries * (isKvMode ? group : 1);
  rows.forEach((row, r) => {
    // Elements past a head's slots keep their start value.
    const sums = Float64Array.from({ length: width }, (_, s) => start + calls * (row[s] ?? 0));
    const error = calls * largestError(naiveRows[r], row, 0, row.length);
    compareWithin(
      `scoreSum row ${r}`,
      Array.from(got.scoreSum!).slice(r * width, (r + 1) * width),
      sums,
      {
        element: (s) => (s < row.length ? scoreSumBound(sums[s], error, terms, logits) : 0),
      },
    );
  });
  return expected;
}

export async function checkAttend(
  arena: Arena,
  values: QueryValues,
  setting: AttendSetting,
): Promise<AttendOutputs> {
  const got = await runAttend(arena, values, setting);
  compareAttend(values, setting, got);
  return got;
}
