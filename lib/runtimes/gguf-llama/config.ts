/**
 * The shape of a model as its GGUF metadata states it, checked: what this runtime cannot do (other architectures,
 * partial rotation, unknown frequency scaling) is refused here, before any work.
 */
import { architectures } from "./architectures.js";
import type { GgufFile } from "./gguf.js";
import { fileError } from "./failures.js";
import { positiveNumber } from "./metadata.js";
import { type RopeConfig, ropeFromGguf } from "./rope-config.js";

/** Everything a cache or a forward pass has to know of the model. */
export interface LlamaConfig {
  /** "llama", "qwen2" or "qwen3". */
  readonly architecture: string;
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
  /** What a cache has to turn queries and keys by: the `rope` option of `KVCache` as it stands. */
  readonly rope: RopeConfig;
}

/** Keys that change what a model computes in ways this runtime does not know, and the values that change nothing. */
const neutralValues: Readonly<Record<string, readonly unknown[]>> = {
  expert_count: [0],
  "attention.causal": [true],
  "attention.sliding_window": [0],
  "attention.scale": [0],
  "attention.clamp_kqv": [0],
  embedding_scale: [0, 1],
  residual_scale: [0, 1],
  logit_scale: [0, 1],
};

/** Reads and checks the configuration. @throws Error naming the metadata key that does not fit */
export function configFromGguf(file: GgufFile): LlamaConfig {
  const architecture = file.metadata.get("general.architecture");
  if (typeof architecture !== "string" || !Object.hasOwn(architectures, architecture)) {
    throw fileError(
      `gguf-llama: expected general.architecture to be one of ${Object.keys(architectures).join(", ")}, ` +
        `got "${architecture}"`,
    );
  }
  for (const [key, neutral] of Object.entries(neutralValues)) {
    const value = file.metadata.get(`${architecture}.${key}`);
    if (value === undefined || neutral.includes(value)) continue;
    throw fileError(
      `gguf-llama: expected no ${architecture}.${key}, which this runtime does not know, got ${value}`,
    );
  }
  const read = (key: string, fallback?: number) =>
    positiveNumber(file, `${architecture}.${key}`, fallback);
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
  if (valueDim !== headDim || rotated !== headDim || headDim % 2 !== 0) {
    throw fileError(
      `gguf-llama: expected keys, values and rotation of one even size, got ${headDim}, ${valueDim}, ${rotated}`,
    );
  }
  const embedding = file.tensors.get("token_embd.weight");
  if (embedding === undefined || embedding.shape[0] !== width) {
    throw fileError(`gguf-llama: expected token_embd.weight with rows of ${width}`);
  }
  return {
    architecture,
    layers: read("block_count"),
    width,
    feedForward: read("feed_forward_length"),
    queryHeads,
    kvHeads,
    headDim,
    vocabulary: embedding.shape[1],
    contextLength: read("context_length"),
    normEpsilon: read("attention.layer_norm_rms_epsilon"),
    rope: ropeFromGguf(file, architecture, headDim),
  };
}
