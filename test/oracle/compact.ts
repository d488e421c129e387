// Oracle of compact: slot indices[i] - indexBase of the source becomes slot i of the result.
import type { RunValues } from "./types.ts";

export interface CompactCase {
  readonly src: RunValues;
  readonly headDim: number;
  readonly indices: readonly number[];
  readonly indexBase: number;
  readonly maskOverride?: Uint16Array;
}

/** Rows (raw) or references and magnitudes (codebook), positions, masks and betas of the kept slots. */
export interface CompactResult {
  readonly k: number[];
  readonly v: number[];
  readonly kRef: number[];
  readonly vRef: number[];
  readonly kMagnitude: number[];
  readonly vMagnitude: number[];
  readonly positions: number[];
  readonly mask: number[];
  readonly beta: number[];
}

export function compactOracle(values: CompactCase): CompactResult {
  const { src, headDim, maskOverride } = values;
  const locals = values.indices.map((index) => index - values.indexBase);
  const rows = (data: Float32Array) =>
    locals.flatMap((s) => Array.from(data.subarray(s * headDim, (s + 1) * headDim)));
  const raw = src.codec === "raw";
  return {
    k: raw ? rows(src.k) : [],
    v: raw ? rows(src.v) : [],
    kRef: raw ? [] : locals.map((s) => src.kRef![s]),
    vRef: raw ? [] : locals.map((s) => src.vRef![s]),
    kMagnitude: raw ? [] : locals.map((s) => src.kMagnitude![s]),
    vMagnitude: raw ? [] : locals.map((s) => src.vMagnitude![s]),
    positions: locals.map((s) => src.positions[s]),
    mask: locals.map((s, i) => maskOverride?.[i] ?? src.mask?.[s] ?? 0xffff),
    beta: locals.map((s) => src.beta?.[s] ?? 0),
  };
}
