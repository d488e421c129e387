// What the oracles read: plain arrays, one object per run of slots, heads as lists of runs.
import type { FloatDType } from "./float-formats.ts";

export type { FloatDType };

/** One run of slots. Raw: k, v are rows [slots, D]. Codebook: k, v are codewords, rows are magnitude * codeword. */
export interface RunValues {
  readonly codec: "raw" | "codebook";
  readonly rotated: boolean;
  readonly slots: number;
  readonly k: Float32Array;
  readonly v: Float32Array;
  readonly kRef?: Int32Array;
  readonly vRef?: Int32Array;
  readonly kMagnitude?: Float32Array;
  readonly vMagnitude?: Float32Array;
  readonly positions: Int32Array;
  readonly mask?: Uint16Array;
  readonly beta?: Float32Array;
}

/** The slots of one KV head, in slot order. */
export type HeadValues = readonly RunValues[];

/** cosSin[(p * nRot/2 + i) * 2 + {0, 1}]: cosine and sine of pair i at position p. */
export interface RopeValues {
  readonly cosSin: Float32Array;
  readonly nRot: number;
  readonly style: "norm" | "neox";
}

export interface QueryValues {
  readonly headDim: number;
  readonly group: number;
  readonly queries: number;
  /** [Hq, Tq, D] before RoPE. */
  readonly q: Float32Array;
  readonly heads: readonly HeadValues[];
  readonly scale: number;
  readonly causal: boolean;
  readonly queryPosition: number;
  readonly ropeQueryPosition: number;
  readonly reindex: boolean;
  readonly rope?: RopeValues;
}

export function slotsOf(head: HeadValues): number {
  return head.reduce((slots, run) => slots + run.slots, 0);
}
