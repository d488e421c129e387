/**
 * The shape of a Llama-architecture model as its GGUF metadata states it, checked: what this runtime
 * cannot do (other architectures, RoPE scaling, partial rotation) is refused here, before any work.
 */
import type { GgufFile } from "./gguf.js";
import { fileError } from "./failures.js";

/** Everything a cache or a forward pass has to know of the model. */
export interface LlamaConfig {
  readonly layers: number;
  readonly width: number;
  readonly feedForward: number;
  readonly queryHeads: number;
  readonly kvHeads: number;
  readonly headDim: number;
  readonly vocabulary: number;
  /** Longest sequence the model was trained on, in tokens. */
  readonly contextLength: number;
  readonly normEpsilon: number;
  /** RoPE on adjacent pairs (2i, 2i+1), angle = position * theta^(-2i / headDim). */
  readonly ropeTheta: number;
}

/** Reads and checks the configuration. @throws Error naming the metadata key that does not fit */
export function configFromGguf(file: GgufFile): LlamaConfig {
  const architecture = file.metadata.get("general.architecture");
  if (architecture !== "llama") {
    throw fileError(`gguf-llama: expected general.architecture "llama", got "${architecture}"`);
  }
  const read = (key: string, fallback?: number): number => {
    const value = file.metadata.get(`llama.${key}`) ?? fallback;
    if (typeof value !== "number" || !(value > 0)) {
      throw fileError(`gguf-llama: expected a positive number for llama.${key}, got ${value}`);
    }
    return value;
  };
  const width = read("embedding_length");
  const queryHeads = read("attention.head_count");
  const kvHeads = read("attention.head_count_kv", queryHeads);
  const headDim = read("attention.key_length", width / queryHeads);
  const valueDim = read("attention.value_length", headDim);
  const rotated = read("rope.dimension_count", headDim);
  if (queryHeads % kvHeads !== 0) {
    throw fileError(
      `gguf-llama: expected the query heads to be a multiple of ${kvHeads} key-value heads, got ${queryHeads}`,
    );
  }
  if (valueDim !== headDim || rotated !== headDim) {
    throw fileError(
      `gguf-llama: expected keys, values and rotation of one size, got ${headDim}, ${valueDim}, ${rotated}`,
    );
  }
  const scaling = file.metadata.get("llama.rope.scaling.type") ?? "none";
  if (scaling !== "none" || file.tensors.has("rope_freqs.weight")) {
    throw fileError(
      `gguf-llama: expected unscaled RoPE, got scaling "${scaling}" or rope_freqs.weight`,
    );
  }
  const embedding = file.tensors.get("token_embd.weight");
  if (embedding === undefined || embedding.shape[0] !== width) {
    throw fileError(`gguf-llama: expected token_embd.weight with rows of ${width}`);
  }
  return {
    layers: read("block_count"),
    width,
    feedForward: read("feed_forward_length"),
    queryHeads,
    kvHeads,
    headDim,
    vocabulary: embedding.shape[1],
    contextLength: read("context_length"),
    normEpsilon: read("attention.layer_norm_rms_epsilon"),
    ropeTheta: read("rope.freq_base", 10_000),
  };
}
