/**
 * Forward pass of a decoder: embedding, the layers (block.ts), and logits = Wout * norm(x).
 *
 * A prompt goes in chunks through all layers, so that the buffers stay small; or, where something is to happen
 * between layers (`compressLayers`, `prune`), all of it through one layer after the other. Each row of a chunk is
 * computed by itself, so both orders give the same numbers.
 */
import { BlockBuffers, runBlock } from "./block.js";
import type { AttentionCache } from "./cache-port.js";
import { configFromGguf, type LlamaConfig } from "./config.js";
import { callError } from "./failures.js";
import type { GgufFile } from "./gguf.js";
import { checkKept, type Prune, runsOf } from "./remaining-tokens.js";
import { keepRows, rmsNorm } from "./rows.js";
import { readWeights, type Weights } from "./weights.js";

/** Prompt tokens that go through a layer together: bounds the buffers; speed is flat from 64 to 2048. */
const kChunkTokens = 256;

/** What {@link LlamaModel.forward} returns, and what happens between layers. */
export interface ForwardOptions {
  /** "last": `[vocabulary]` after the last token. "all": `[tokens, vocabulary]`. */
  readonly logits: "last" | "all";
  /**
   * Sends all tokens through one layer before the next one, and calls `compress` of the cache's layer in between:
   * only one layer is uncompressed at a time. Default false.
   */
  readonly compressLayers?: boolean;
  /** Drops rows of the residual stream between layers; only with logits "last". Also layer by layer. */
  readonly prune?: Prune;
}

/** Weights of one model; holds no state of a sequence, so any number of caches may share it. */
export class LlamaModel {
  readonly config: LlamaConfig;
  private readonly weights: Weights;

  constructor(file: GgufFile) {
    this.config = configFromGguf(file);
    this.weights = readWeights(file, this.config);
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
    const { width, vocabulary } = this.config;
    this.check(tokens, cache, options);
    const wantsAll = options.logits === "all";
    const isLayerByLayer = options.compressLayers === true || options.prune !== undefined;
    const piece = isLayerByLayer ? tokens.length : kChunkTokens;
    const buffers = new BlockBuffers(this.config, Math.min(tokens.length, kChunkTokens));
    const logits = new Float32Array(wantsAll ? tokens.length * vocabulary : vocabulary);
    for (let start = 0; start < tokens.length; start += piece) {
      const chunk = tokens.subarray(start, start + piece);
      const x = await this.runLayers(chunk, cache, options, buffers);
      if (wantsAll) {
        this.project(x, logits.subarray(start * vocabulary));
      } else if (start + chunk.length === tokens.length) {
        this.project(x.subarray(x.length - width), logits);
      }
    }
    await cache.maintain?.();
    return logits;
  }

  /** Embedding and all layers: the residual stream `[rows, width]` of the tokens that were not pruned. */
  private async runLayers(
    tokens: Int32Array,
    cache: AttentionCache,
    { compressLayers = false, prune }: ForwardOptions,
    buffers: BlockBuffers,
  ): Promise<Float32Array> {
    const { config } = this;
    const { blocks, embed } = this.weights;
    let x = new Float32Array(tokens.length * config.width);
    for (const [row, token] of tokens.entries()) embed(token, x.subarray(row * config.width));
    let remaining = Int32Array.from(tokens, (_, i) => i);
    for (const [i, block] of blocks.entries()) {
      const layer = cache.layers[i];
      for (let start = 0; start < remaining.length; start += kChunkTokens) {
        const end = Math.min(start + kChunkTokens, remaining.length);
        const rows = x.subarray(start * config.width, end * config.width);
        await runBlock(block, config, layer, rows, runsOf(remaining, start, end), buffers);
      }
      // The rows are chosen first: what a layer holds after compression no longer stands for them.
      const kept = i + 1 < blocks.length ? await prune?.(i, remaining) : null;
      if (compressLayers) await layer.compress?.();
      if (kept === null || kept === undefined) continue;
      checkKept(i, kept, remaining.length);
      x = keepRows(x, config.width, kept);
      remaining = Int32Array.from(kept, (row) => remaining[row]);
    }
    return x;
  }

  private project(x: Float32Array, logits: Float32Array): void {
    const { outputNorm, output } = this.weights;
    const normed = new Float32Array(x.length);
    rmsNorm(x, outputNorm, this.config.normEpsilon, normed);
    output.forward(normed, x.length / this.config.width, logits);
  }

  private check(tokens: Int32Array, cache: AttentionCache, options: ForwardOptions): void {
    const { layers, vocabulary } = this.config;
    if (tokens.length === 0) throw callError("forward: expected at least one token, got none");
    if (cache.layers.length !== layers) {
      throw callError(`forward: expected a cache of ${layers} layers, got ${cache.layers.length}`);
    }
    for (const token of tokens) {
      if (token < 0 || token >= vocabulary) {
        throw callError(`forward: expected tokens of 0 to ${vocabulary - 1}, got ${token}`);
      }
    }
    if (options.prune !== undefined && options.logits === "all") {
      throw callError('forward: expected logits "last" with prune, got "all"');
    }
    const without = (name: "compress" | "skip") =>
      cache.layers.findIndex((layer) => layer[name] === undefined);
    if (options.compressLayers === true && without("compress") >= 0) {
      throw callError(
        `forward: expected a cache with compress for compressLayers, got none in layer ${without("compress")}`,
      );
    }
    if (options.prune !== undefined && without("skip") >= 0) {
      throw callError(
        `forward: expected a cache with skip for prune, got none in layer ${without("skip")}`,
      );
    }
  }
}
