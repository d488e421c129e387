/** What several ops take. */
import type { Tensor } from "../tensor.js";

/**
 * A run of slots of one KV head, stored by one codec. Tensors are contiguous.
 *
 * `raw`: `k` and `v` are `[slots, headDim]`. `codebook`: `k` and `v` are the codewords
 * `[codewords, headDim]`, and a slot's key is `kMagnitude[s] * k[kRef[s]]`, its value likewise.
 */
export interface Run {
  readonly codec: "raw" | "codebook";
  /** Filled slots; default: as many as `positions` has. */
  readonly slots?: number | undefined;
  /** Keys are stored after RoPE; default false. */
  readonly rotated?: boolean | undefined;
  readonly k: Tensor;
  readonly v: Tensor;
  /** Codebook: `[slots]` u16 or i32. */
  readonly kRef?: Tensor | undefined;
  /** Codebook: `[slots]`, dtype of kRef. */
  readonly vRef?: Tensor | undefined;
  /** Codebook: `[slots]`, dtype of k. */
  readonly kMagnitude?: Tensor | undefined;
  /** Codebook: `[slots]`, dtype of k. */
  readonly vMagnitude?: Tensor | undefined;
  /** `[slots]` i32: logical positions, >= 0. */
  readonly positions: Tensor;
  /** `[slots]` u16: bit g set, visible to query head g of the group; default: visible to all. */
  readonly mask?: Tensor | undefined;
  /** `[slots]` f32 added to the logits; default 0. */
  readonly beta?: Tensor | undefined;
}

/** A rotary embedding. */
export interface Rope {
  /** `[positions, nRot / 2, 2]` f32 of `makeRopeTable`. */
  readonly table: Tensor;
  /** Pairs `(2i, 2i + 1)` ("norm") or `(i, i + nRot / 2)` ("neox"). */
  readonly style: "norm" | "neox";
}
