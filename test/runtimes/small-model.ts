/** GGUF files of small models with seeded random weights, of any architecture and weight type the runtime reads. */
import { Random } from "../../lib/eval/random.ts";
import { floatTensor, type TensorToWrite, type Value, writeGguf } from "./gguf-writer.ts";
import { type WeightType, weightTensor } from "./weight-types.ts";

export interface SmallModel {
  readonly architecture: "llama" | "qwen2" | "qwen3";
  readonly weights: WeightType;
  readonly seed: number;
  /** Default 3. */
  readonly layers?: number;
  /** Dims of a head; queries and keys together need not be as wide as the model. Default 16. */
  readonly headDim?: number;
  /** No output.weight: the embeddings are used twice. */
  readonly isTied?: boolean;
  /** Names of weights with a bias, without layer and ".weight". */
  readonly biases?: readonly string[];
  /** rope_freqs.weight. */
  readonly ropeFactors?: readonly number[];
  /** More metadata; keys that begin with "." get the architecture in front. */
  readonly metadata?: Record<string, Value>;
}

/** The shape of all of them. */
const shape = { width: 64, feedForward: 96, queryHeads: 4, kvHeads: 2 };

/** @param vocabulary metadata of a tokenizer, `tokenizer.ggml.tokens` among them */
export function smallModel(model: SmallModel, vocabulary: Record<string, Value>): Buffer {
  const { architecture, weights, layers = 3, headDim = 16, isTied = false, biases = [] } = model;
  const { width, feedForward, queryHeads, kvHeads } = shape;
  const tokens = (vocabulary["tokenizer.ggml.tokens"] as readonly string[]).length;
  const random = new Random(model.seed);
  /** About normal, by the sum of uniforms. */
  const draw = (length: number, deviation: number, mean = 0) =>
    Float32Array.from({ length }, () => {
      const sum = random.unit() + random.unit() + random.unit() + random.unit();
      return mean + deviation * Math.sqrt(3) * (sum - 2);
    });

  const tensors: Record<string, TensorToWrite> = {};
  const matrix = (name: string, outputs: number, inputs: number, gain: number) => {
    const values = draw(outputs * inputs, gain / Math.sqrt(inputs));
    tensors[`${name}.weight`] = weightTensor(weights, [inputs, outputs], values);
    if (biases.includes(name.replace(/^blk\.\d+\./, ""))) {
      tensors[`${name}.bias`] = floatTensor([outputs], draw(outputs, 0.5));
    }
  };
  const norm = (name: string, length: number, mean = 1) => {
    tensors[`${name}.weight`] = floatTensor([length], draw(length, 0.2 * mean, mean));
  };
  matrix("token_embd", tokens, width, Math.sqrt(width));
  for (let i = 0; i < layers; i++) {
    const at = `blk.${i}.`;
    norm(`${at}attn_norm`, width);
    // A gain above 1 makes attention choose, so that where a key stands matters.
    matrix(`${at}attn_q`, queryHeads * headDim, width, 2);
    matrix(`${at}attn_k`, kvHeads * headDim, width, 1);
    matrix(`${at}attn_v`, kvHeads * headDim, width, 2);
    matrix(`${at}attn_output`, width, queryHeads * headDim, 1);
    if (architecture === "qwen3") {
      norm(`${at}attn_q_norm`, headDim);
      norm(`${at}attn_k_norm`, headDim);
    }
    norm(`${at}ffn_norm`, width);
    matrix(`${at}ffn_gate`, feedForward, width, 1);
    matrix(`${at}ffn_up`, feedForward, width, 1);
    matrix(`${at}ffn_down`, width, feedForward, 1);
  }
  norm("output_norm", width, isTied ? 2 / Math.sqrt(width) : 1); // logits of the same spread
  if (!isTied) matrix("output", tokens, width, 2);
  if (model.ropeFactors !== undefined) {
    tensors["rope_freqs.weight"] = floatTensor([headDim / 2], model.ropeFactors);
  }
  const metadata: Record<string, Value> = {
    ".block_count": layers,
    ".embedding_length": width,
    ".feed_forward_length": feedForward,
    ".attention.head_count": queryHeads,
    ".attention.head_count_kv": kvHeads,
    ".attention.key_length": headDim,
    ".attention.value_length": headDim,
    ".rope.dimension_count": headDim,
    ".context_length": 256,
    ".attention.layer_norm_rms_epsilon": { f32: 1e-6 },
    ...model.metadata,
  };
  const named = Object.entries(metadata).map(([key, value]) => [
    key.startsWith(".") ? architecture + key : key,
    value,
  ]);
  return writeGguf(
    { "general.architecture": architecture, ...Object.fromEntries(named), ...vocabulary },
    tensors,
  );
}
