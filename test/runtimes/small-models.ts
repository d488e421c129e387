/** The models that the runtime is checked with: every architecture, weight type and frequency scaling it reads. */
import type { SmallModel } from "./small-model.ts";

const yarn = {
  ".rope.scaling.type": "yarn",
  ".rope.scaling.factor": { f32: 4 },
  ".rope.scaling.original_context_length": 64,
};
const projections = ["attn_q", "attn_k", "attn_v"];

export const smallModels: Record<string, SmallModel> = {
  "llama, f32": { architecture: "llama", weights: "f32", seed: 1 },
  "llama, f16, tied, biases everywhere": {
    architecture: "llama",
    weights: "f16",
    seed: 2,
    isTied: true,
    biases: [...projections, "attn_output", "ffn_gate", "ffn_up", "ffn_down"],
    metadata: { ".rope.freq_base": { f32: 500_000 } },
  },
  "llama, bf16, linear scaling": {
    architecture: "llama",
    weights: "bf16",
    seed: 3,
    metadata: { ".rope.scaling.type": "linear", ".rope.scaling.factor": { f32: 2.5 } },
  },
  "llama, q8_0, Llama 3.1's rope_freqs.weight": {
    architecture: "llama",
    weights: "q8_0",
    seed: 4,
    ropeFactors: [1, 1, 1, 1.5, 3, 6, 8, 8],
  },
  "llama, f32, YaRN with an attention factor": {
    architecture: "llama",
    weights: "f32",
    seed: 5,
    metadata: { ...yarn, ".rope.scaling.attn_factor": { f32: 0.9 } },
  },
  "llama, f16, rope_freqs.weight and a linear factor": {
    architecture: "llama",
    weights: "f16",
    seed: 6,
    ropeFactors: [1, 1, 1.2, 1.5, 3, 6, 8, 8],
    metadata: { ".rope.scaling.factor": { f32: 2 } },
  },
  "qwen2, f32, tied": {
    architecture: "qwen2",
    weights: "f32",
    seed: 7,
    isTied: true,
    biases: projections,
  },
  "qwen2, q8_0, YaRN": {
    architecture: "qwen2",
    weights: "q8_0",
    seed: 8,
    biases: projections,
    metadata: yarn,
  },
  "qwen2, bf16": { architecture: "qwen2", weights: "bf16", seed: 9, biases: projections },
  "qwen3, f16, heads wider than the model": {
    architecture: "qwen3",
    weights: "f16",
    seed: 10,
    headDim: 32,
    metadata: { ".rope.freq_base": { f32: 1_000_000 } },
  },
  "qwen3, q8_0, tied, YaRN": {
    architecture: "qwen3",
    weights: "q8_0",
    seed: 11,
    isTied: true,
    metadata: yarn,
  },
};
