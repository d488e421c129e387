/** The weights of a model, read from its file once; names of the tensors as llama.cpp has them. */
import { architectures } from "./architectures.js";
import type { LlamaConfig } from "./config.js";
import { fileError } from "./failures.js";
import type { GgufFile } from "./gguf.js";
import { type Linear, LinearStore } from "./linear.js";
import { tensorTypes } from "./tensor-types.js";

const kMaxBytes = 2 ** 32 - 2 ** 27; // WebAssembly's 4 GiB, less room for activations

/** One layer. */
export interface Block {
  readonly attentionNorm: Float32Array;
  readonly query: Linear;
  readonly key: Linear;
  readonly value: Linear;
  /** Norms over each head of the queries and keys, `[headDim]`; null where the architecture has none. */
  readonly queryNorm: Float32Array | null;
  readonly keyNorm: Float32Array | null;
  readonly output: Linear;
  readonly feedForwardNorm: Float32Array;
  readonly gate: Linear;
  readonly up: Linear;
  readonly down: Linear;
}

export interface Weights {
  /** Copies the embedding of a token, `[width]`, to the front of `out`. */
  readonly embed: (token: number, out: Float32Array) => void;
  readonly blocks: readonly Block[];
  readonly outputNorm: Float32Array;
  readonly output: Linear;
}

/** @throws Error naming a tensor that is absent, of another size, or that this runtime would not use */
export function readWeights(file: GgufFile, config: LlamaConfig): Weights {
  const { layers, width, feedForward, queryHeads, kvHeads, headDim, vocabulary } = config;
  const { hasHeadNorm, hasRopeFactors } = architectures[config.architecture];
  checkTypes(file);
  checkSize(file);
  const used = new Set<string>();
  if (hasRopeFactors) used.add("rope_freqs.weight"); // read with the configuration
  const tensor = (name: string, elements: number): Float32Array => {
    used.add(name);
    const data = file.readTensor(name);
    if (data.length !== elements) {
      throw fileError(`gguf-llama: expected ${elements} elements for ${name}, got ${data.length}`);
    }
    return data;
  };
  const store = new LinearStore();
  const linear = (name: string, outputs: number, inputs: number) => {
    const bias = file.tensors.has(`${name}.bias`) ? tensor(`${name}.bias`, outputs) : null;
    return store.add(tensor(`${name}.weight`, outputs * inputs), outputs, inputs, bias);
  };
  const headNorm = (name: string) => (hasHeadNorm ? tensor(name, headDim) : null);

  const blocks = Array.from(
    { length: layers },
    (_, i): Block => ({
      attentionNorm: tensor(`blk.${i}.attn_norm.weight`, width),
      query: linear(`blk.${i}.attn_q`, queryHeads * headDim, width),
      key: linear(`blk.${i}.attn_k`, kvHeads * headDim, width),
      value: linear(`blk.${i}.attn_v`, kvHeads * headDim, width),
      queryNorm: headNorm(`blk.${i}.attn_q_norm.weight`),
      keyNorm: headNorm(`blk.${i}.attn_k_norm.weight`),
      output: linear(`blk.${i}.attn_output`, width, queryHeads * headDim),
      feedForwardNorm: tensor(`blk.${i}.ffn_norm.weight`, width),
      gate: linear(`blk.${i}.ffn_gate`, feedForward, width),
      up: linear(`blk.${i}.ffn_up`, feedForward, width),
      down: linear(`blk.${i}.ffn_down`, width, feedForward),
    }),
  );
  const outputNorm = tensor("output_norm.weight", width);
  const isTied = !file.tensors.has("output.weight");
  const output = linear(isTied ? "token_embd" : "output", vocabulary, width);
  const embed = isTied
    ? (token: number, out: Float32Array) => output.row(token, out)
    : embedder(tensor("token_embd.weight", vocabulary * width), width);

  // A tensor nobody read (an expert, another norm) would mean wrong answers without a word.
  const unread = [...file.tensors.keys()].filter((name) => !used.has(name));
  if (unread.length > 0) {
    throw fileError(
      `gguf-llama: expected a plain ${config.architecture} model, got the tensors ${unread.join(", ")}`,
    );
  }
  return { embed, blocks, outputNorm, output };
}

/** @throws Error for tensors of a type that is not decoded, all of them before any is read */
function checkTypes(file: GgufFile): void {
  const known = [...tensorTypes.values()].map(({ name }) => name);
  const other = [...file.tensors.values()].find(({ type }) => !known.includes(type));
  if (other === undefined) return;
  throw fileError(
    `gguf-llama: expected weights of ${known.join(", ")}, got ${other.type} for ${other.name}`,
  );
}

/** @throws Error when the matrices, as float32, would not fit the memory they are multiplied in */
function checkSize(file: GgufFile): void {
  const isTied = !file.tensors.has("output.weight");
  const elements = [...file.tensors.values()]
    .filter(({ name, shape }) => shape.length > 1 && (isTied || name !== "token_embd.weight"))
    .reduce((sum, { shape }) => sum + shape.reduce((product, extent) => product * extent, 1), 0);
  if (elements * 4 <= kMaxBytes) return;
  throw fileError(
    `gguf-llama: expected matrices of at most ${kMaxBytes} bytes as float32, got ${elements * 4}`,
  );
}

function embedder(rows: Float32Array, width: number) {
  return (token: number, out: Float32Array) =>
    out.set(rows.subarray(token * width, (token + 1) * width));
}
