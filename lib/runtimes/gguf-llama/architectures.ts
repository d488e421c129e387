/**
 * The model architectures this runtime reads, as data: what differs between them beyond the tensors a file has or
 * has not. All are pre-norm decoders with RMSNorm, RoPE, grouped-query attention and a gated SiLU feed-forward part;
 * a bias beside any weight and tied output embeddings are read wherever a file has them.
 * Names as `general.architecture` of GGUF files has them.
 */

export interface Architecture {
  /** RoPE turns neighbours (2i, 2i + 1), or halves (i, i + headDim / 2). */
  readonly ropeStyle: "norm" | "neox";
  /** RMSNorm over each query and key head before RoPE (attn_q_norm, attn_k_norm). */
  readonly hasHeadNorm: boolean;
  /** `rope_freqs.weight` may bring a divisor for each pair's frequency (Llama 3.1). */
  readonly hasRopeFactors: boolean;
}

export const architectures: Readonly<Record<string, Architecture>> = {
  // arXiv 2302.13971; llama.cpp's converter reorders the rows of Wq and Wk for neighbouring pairs.
  llama: { ropeStyle: "norm", hasHeadNorm: false, hasRopeFactors: true },
  // arXiv 2407.10671; biases on queries, keys and values.
  qwen2: { ropeStyle: "neox", hasHeadNorm: false, hasRopeFactors: false },
  // arXiv 2505.09388
  qwen3: { ropeStyle: "neox", hasHeadNorm: true, hasRopeFactors: false },
};
