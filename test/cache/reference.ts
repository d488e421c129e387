// The dense reference cache: every token's rows as plain arrays, attended in float64 by test/oracle/attend.ts.
// Compared under the rule of all attention tests: at most twice the error of a naive implementation in the
// same dtype, plus a floor.
import type { StoredSlots } from "../../lib/index.ts";
import { compareWithin } from "../harness/compare.ts";
import { largestValueOf, logitScaleOf, makeRope } from "../harness/heads.ts";
import { attentionBound } from "../harness/tolerance.ts";
import { appendKvTwin } from "../oracle/append-kv.ts";
import { attendNaive, attendOracle } from "../oracle/attend.ts";
import type { FloatDType } from "../oracle/float-formats.ts";
import type { HeadValues, QueryValues, RopeValues, RunValues } from "../oracle/types.ts";
import { type Prompt, sliceTokens } from "./fixtures.ts";

export interface RopeSetting {
  readonly theta: number;
  readonly style: "norm" | "neox";
  readonly nRot?: number;
}

export interface ReferenceOptions {
  readonly layer: number;
  /** Queries of tokens [from, to); the cache holds tokens [0, to). */
  readonly from: number;
  readonly to: number;
  readonly rope?: RopeSetting;
  /** Keys are stored after RoPE, rounded to the dtype. */
  readonly isRotated?: boolean;
  /** Slots of a KV head that are there; default all. */
  readonly kept?: (kvHead: number) => readonly number[];
  /** Bits of the query heads that see the slots of `kept`. */
  readonly masks?: (kvHead: number) => readonly number[];
  /** RoPE by slot index, the queries' by the cache length. */
  readonly reindex?: boolean;
}

export function ropeValues(headDim: number, positions: number, rope?: RopeSetting) {
  if (rope === undefined) return undefined;
  return makeRope({ positions, nRot: rope.nRot ?? headDim, style: rope.style, theta: rope.theta });
}

function rowsAt(rows: Float32Array, headDim: number, tokens: readonly number[]): Float32Array {
  const result = new Float32Array(tokens.length * headDim);
  tokens.forEach((token, i) => {
    result.set(rows.subarray(token * headDim, (token + 1) * headDim), i * headDim);
  });
  return result;
}

function headOf(
  prompt: Prompt,
  kvHead: number,
  rope: RopeValues | undefined,
  options: ReferenceOptions,
): HeadValues {
  const { headDim, kvHeads, dtype = "f16" } = prompt.shape;
  const { layer, to, isRotated = false } = options;
  const all = prompt.layers[layer];
  const head = (rows: Float32Array) => {
    const perHead = rows.length / kvHeads;
    return rows.subarray(kvHead * perHead, kvHead * perHead + to * headDim);
  };
  const stored = appendKvTwin({
    k: head(all.k),
    v: head(all.v),
    tokens: to,
    headDim,
    dtype,
    firstPosition: 0,
    ...(isRotated && rope !== undefined ? { rope } : {}),
  });
  const kept = options.kept?.(kvHead) ?? Array.from({ length: to }, (_, i) => i);
  const masks = options.masks?.(kvHead);
  return [
    {
      codec: "raw",
      rotated: isRotated,
      slots: kept.length,
      k: rowsAt(stored.k, headDim, kept),
      v: rowsAt(stored.v, headDim, kept),
      positions: Int32Array.from(kept),
      ...(masks === undefined ? {} : { mask: Uint16Array.from(masks) }),
    } satisfies RunValues,
  ];
}

/** What attention of a layer must be, from the rows that went in. */
export function denseValues(prompt: Prompt, options: ReferenceOptions): QueryValues {
  const { headDim, kvHeads } = prompt.shape;
  const { to } = options;
  const rope = ropeValues(headDim, to, options.rope);
  const heads = Array.from({ length: kvHeads }, (_, h) => headOf(prompt, h, rope, options));
  return queryValues(prompt, heads, rope, options);
}

/** What attention of a layer must be, from the slots that are stored (decoded if they are references). */
export function storedValues(
  prompt: Prompt,
  slots: readonly StoredSlots[],
  options: ReferenceOptions,
): QueryValues {
  const { headDim } = prompt.shape;
  const rope = ropeValues(headDim, options.to, options.rope);
  const heads = slots.map((head): HeadValues => {
    // Slots stored before and after RoPE become runs of their own, in slot order.
    const runs: RunValues[] = [];
    for (let first = 0; first < head.slots; ) {
      let end = first + 1;
      while (end < head.slots && head.isRotated[end] === head.isRotated[first]) end += 1;
      runs.push({
        codec: "raw",
        rotated: head.isRotated[first] === 1,
        slots: end - first,
        k: head.keys.subarray(first * headDim, end * headDim),
        v: head.values.subarray(first * headDim, end * headDim),
        positions: head.positions.subarray(first, end),
        mask: head.masks.subarray(first, end),
      });
      first = end;
    }
    return runs;
  });
  return queryValues(prompt, heads, rope, options);
}

function queryValues(
  prompt: Prompt,
  heads: readonly HeadValues[],
  rope: RopeValues | undefined,
  options: ReferenceOptions,
): QueryValues {
  const { headDim, kvHeads, queryHeads } = prompt.shape;
  const { layer, from, to, reindex = false } = options;
  const slots = heads[0].reduce((sum, run) => sum + run.slots, 0);
  return {
    headDim,
    group: queryHeads / kvHeads,
    queries: to - from,
    q: sliceTokens(prompt.layers[layer].q, queryHeads, headDim, from, to),
    heads,
    scale: 1 / Math.sqrt(headDim),
    causal: true,
    queryPosition: from,
    ropeQueryPosition: reindex ? slots - (to - from) : from,
    reindex,
    ...(rope === undefined ? {} : { rope }),
  };
}

/** Compares attention outputs [queryHeads, queries, D] of float32 queries with the float64 oracle. */
export function compareAttention(
  name: string,
  got: Float32Array,
  values: QueryValues,
  dtype: FloatDType,
): void {
  const { headDim, group, queries, heads } = values;
  const expected = attendOracle(values).out;
  const naive = attendNaive(values, dtype, "f32").out;
  const logits = logitScaleOf(values);
  const bounds = Array.from({ length: expected.length / headDim }, (_, row) => {
    const from = row * headDim;
    let naiveError = 0;
    let largestOutput = 0;
    for (let i = from; i < from + headDim; i++) {
      naiveError = Math.max(naiveError, Math.abs(naive[i] - expected[i]));
      largestOutput = Math.max(largestOutput, Math.abs(expected[i]));
    }
    const head = heads[Math.floor(row / queries / group)];
    const largestValue = largestValueOf(head);
    return attentionBound(naiveError, {
      ...logits,
      dtype,
      outDtype: "f32",
      largestOutput,
      largestValue,
    });
  });
  compareWithin(name, got, expected, { element: (i) => bounds[Math.floor(i / headDim)] });
}
