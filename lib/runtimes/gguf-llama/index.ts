/** The example runtime: a small GGUF model (Llama, Qwen2, Qwen3) whose attention lives in a cache. */
import type { LlamaConfig } from "./config.js";
import { readGguf } from "./gguf.js";
import { LlamaModel } from "./model.js";
import { type Tokenizer, tokenizerFromGguf } from "./tokenizer.js";

export type { AttentionCache, AttentionLayer } from "./cache-port.js";
export { configFromGguf, type LlamaConfig } from "./config.js";
export {
  type GgufFile,
  type GgufTensorInfo,
  type GgufValue,
  parseGguf,
  readGguf,
} from "./gguf.js";
export { type ForwardOptions, LlamaModel } from "./model.js";
export type { Prune } from "./remaining-tokens.js";
export type { RopeConfig } from "./rope-config.js";
export { type Spelling, Tokenizer, tokenizerFromGguf } from "./tokenizer.js";
export type { TokenKind, Vocabulary } from "./vocabulary.js";

/** A model file, ready to run. */
export interface LoadedModel {
  readonly model: LlamaModel;
  readonly tokenizer: Tokenizer;
  /** What a cache needs: `layers`, `queryHeads`, `kvHeads`, `headDim` and `rope` are options of `KVCache`. */
  readonly config: LlamaConfig;
}

/**
 * Loads model and tokenizer of a GGUF file.
 *
 * @throws {SpindleKVError} ERR_SPINDLEKV_FILE, naming what the runtime cannot do
 * @example
 * const { model, tokenizer, config } = await loadGgufLlama("model.gguf");
 * const { layers, queryHeads, kvHeads, headDim, rope } = config;
 * using cache = new KVCache(device, { layers, queryHeads, kvHeads, headDim, rope });
 * const logits = await model.forward(tokenizer.encode("Once"), cache, { logits: "last" });
 */
export async function loadGgufLlama(path: string): Promise<LoadedModel> {
  const file = await readGguf(path);
  const tokenizer = tokenizerFromGguf(file);
  const model = new LlamaModel(file);
  return { model, tokenizer, config: model.config };
}
