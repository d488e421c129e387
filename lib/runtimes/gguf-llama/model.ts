/**
 * Forward pass of a Llama-architecture decoder, per layer:
 *   x += Wo * attention(Wq * norm(x), Wk * norm(x), Wv * norm(x))
 *   x += Wdown * (silu(Wgate * norm(x)) * (Wup * norm(x)))
 * and logits = Wout * norm(x). Keys and values go to a cache before RoPE and attention comes from it
 * (cache-port.ts), so this file knows neither positions nor how anything is stored.
 * Source: Touvron et al. 2023 (arXiv 2302.13971), section 2.2; names of the tensors as in llama.cpp.
 */
import type { AttentionCache, AttentionLayer } from "./cache-port.js";
import { configFromGguf, type LlamaConfig } from "./config.js";
import type { GgufFile } from "./gguf.js";
import { type Linear, LinearStore } from "./linear.js";
import { callError } from "./failures.js";

/** Prompt tokens that go through a layer together: bounds the buffers; speed is flat from 64 to 2048. */
const kChunkTokens = 256;

/** What {@link LlamaModel.forward} returns. */
export interface ForwardOptions {
  /** "last": `[vocabulary]` after the last token. "all": `[tokens, vocabulary]`. */
  readonly logits: "last" | "all";
}

interface Block {
  readonly attentionNorm: Float32Array;
  readonly query: Linear;
  readonly key: Linear;
  readonly value: Linear;
  readonly output: Linear;
  readonly feedForwardNorm: Float32Array;
  readonly gate: Linear;
  readonly up: Linear;
  readonly down: Linear;
}

/** Weights of one model; holds no state of a sequence, so any number of caches may share it. */
export class LlamaModel {
  readonly config: LlamaConfig;
  private readonly embedding: Float32Array;
  private readonly blocks: readonly Block[];
  private readonly outputNorm: Float32Array;
  private readonly output: Linear;

  constructor(file: GgufFile) {
    this.config = configFromGguf(file);
    const { layers, width, feedForward, queryHeads, kvHeads, headDim, vocabulary } = this.config;
    const used = new Set<string>();
    const tensor = (name: string, elements: number): Float32Array => {
      used.add(name);
      const data = file.readTensor(name);
      if (data.length !== elements) {
        throw callError(
          `gguf-llama: expected ${elements} elements for ${name}, got ${data.length}`,
        );
      }
      return data;
    };
    const store = new LinearStore();
    const linear = (name: string, outputs: number, inputs: number) =>
      store.add(tensor(name, outputs * inputs), outputs, inputs);

    this.embedding = tensor("token_embd.weight", vocabulary * width);
    this.blocks = Array.from({ length: layers }, (_, i) => ({
      attentionNorm: tensor(`blk.${i}.attn_norm.weight`, width),
      query: linear(`blk.${i}.attn_q.weight`, queryHeads * headDim, width),
      key: linear(`blk.${i}.attn_k.weight`, kvHeads * headDim, width),
      value: linear(`blk.${i}.attn_v.weight`, kvHeads * headDim, width),
      output: linear(`blk.${i}.attn_output.weight`, width, queryHeads * headDim),
      feedForwardNorm: tensor(`blk.${i}.ffn_norm.weight`, width),
      gate: linear(`blk.${i}.ffn_gate.weight`, feedForward, width),
      up: linear(`blk.${i}.ffn_up.weight`, feedForward, width),
      down: linear(`blk.${i}.ffn_down.weight`, width, feedForward),
    }));
    this.outputNorm = tensor("output_norm.weight", width);
    const outputName = file.tensors.has("output.weight") ? "output.weight" : "token_embd.weight";
    this.output = linear(outputName, vocabulary, width);

    // A tensor nobody read (a bias, an expert) would mean wrong answers without a word.
    const unread = [...file.tensors.keys()].filter((name) => !used.has(name));
    if (unread.length > 0) {
      throw callError(
        `gguf-llama: expected a plain Llama model, got the tensors ${unread.join(", ")}`,
      );
    }
  }

  /**
   * Runs `tokens` behind what the cache already holds; their keys and values are in it afterwards.
   * If the cache rejects, the layers before have the tokens and those behind have not: drop the cache.
   *
   * @param tokens one or more token ids
   * @returns logits as `options.logits` asks, owned by the caller
   */
  async forward(
    tokens: Int32Array,
    cache: AttentionCache,
    options: ForwardOptions,
  ): Promise<Float32Array> {
    const { layers, width, vocabulary } = this.config;
    if (tokens.length === 0) throw callError("forward: expected at least one token, got none");
    if (cache.layers.length !== layers) {
      throw callError(`forward: expected a cache of ${layers} layers, got ${cache.layers.length}`);
    }
    for (const token of tokens) {
      if (token < 0 || token >= vocabulary) {
        throw callError(`forward: expected tokens of 0 to ${vocabulary - 1}, got ${token}`);
      }
    }
    const wantsAll = options.logits === "all";
    const logits = new Float32Array(wantsAll ? tokens.length * vocabulary : vocabulary);
    for (let start = 0; start < tokens.length; start += kChunkTokens) {
      const chunk = tokens.subarray(start, start + kChunkTokens);
      const x = await this.runBlocks(chunk, cache);
      if (wantsAll) {
        this.project(x, chunk.length, logits.subarray(start * vocabulary));
      } else if (start + chunk.length === tokens.length) {
        this.project(x.subarray((chunk.length - 1) * width), 1, logits);
      }
    }
    return logits;
  }

  /** Embedding and all layers: the residual stream `[tokens, width]`. */
  private async runBlocks(tokens: Int32Array, cache: AttentionCache): Promise<Float32Array> {
    const { width, feedForward } = this.config;
    const count = tokens.length;
    const x = new Float32Array(count * width);
    for (let t = 0; t < count; t++) {
      x.set(this.embedding.subarray(tokens[t] * width, (tokens[t] + 1) * width), t * width);
    }
    const normed = new Float32Array(count * width);
    const delta = new Float32Array(count * width);
    const gate = new Float32Array(count * feedForward);
    const up = new Float32Array(count * feedForward);
    for (const [i, block] of this.blocks.entries()) {
      rmsNorm(x, block.attentionNorm, this.config.normEpsilon, normed);
      const attended = await this.attention(block, cache.layers[i], normed, count);
      block.output.forward(attended, count, delta);
      addTo(x, delta);

      rmsNorm(x, block.feedForwardNorm, this.config.normEpsilon, normed);
      block.gate.forward(normed, count, gate);
      block.up.forward(normed, count, up);
      for (let j = 0; j < gate.length; j++) gate[j] = (gate[j] / (1 + Math.exp(-gate[j]))) * up[j];
      block.down.forward(gate, count, delta);
      addTo(x, delta);
    }
    return x;
  }

  /** Attention through the cache: `[tokens, queryHeads * headDim]`. */
  private async attention(block: Block, layer: AttentionLayer, x: Float32Array, tokens: number) {
    const { queryHeads, kvHeads, headDim } = this.config;
    const projected = (weight: Linear, heads: number) => {
      const rows = new Float32Array(tokens * weight.outputs);
      weight.forward(x, tokens, rows);
      return swapHeads(rows, tokens, heads, headDim);
    };
    layer.append(projected(block.key, kvHeads), projected(block.value, kvHeads), tokens);
    const out = new Float32Array(queryHeads * tokens * headDim);
    await layer.attend(projected(block.query, queryHeads), out, tokens);
    return swapHeads(out, queryHeads, tokens, headDim);
  }

  private project(x: Float32Array, tokens: number, logits: Float32Array): void {
    const normed = new Float32Array(tokens * this.config.width);
    rmsNorm(x.subarray(0, normed.length), this.outputNorm, this.config.normEpsilon, normed);
    this.output.forward(normed, tokens, logits);
  }
}

/** out = x / sqrt(mean(x^2) + epsilon) * weight, row by row. */
function rmsNorm(x: Float32Array, weight: Float32Array, epsilon: number, out: Float32Array): void {
  const width = weight.length;
  for (let row = 0; row < x.length; row += width) {
    let sum = 0;
    for (let i = 0; i < width; i++) sum += x[row + i] * x[row + i];
    const scale = 1 / Math.sqrt(sum / width + epsilon);
    for (let i = 0; i < width; i++) out[row + i] = x[row + i] * scale * weight[i];
  }
}

function addTo(x: Float32Array, delta: Float32Array): void {
  for (let i = 0; i < x.length; i++) x[i] += delta[i];
}

/** [outer, inner, headDim] to [inner, outer, headDim]. */
function swapHeads(x: Float32Array, outer: number, inner: number, headDim: number): Float32Array {
  const out = new Float32Array(x.length);
  for (let o = 0; o < outer; o++) {
    for (let i = 0; i < inner; i++) {
      const from = (o * inner + i) * headDim;
      out.set(x.subarray(from, from + headDim), (i * outer + o) * headDim);
    }
  }
  return out;
}
