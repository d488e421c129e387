/** The example runtime: a small Llama-architecture GGUF model whose attention lives in a cache. */
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
export { Tokenizer, tokenizerFromGguf, type Vocabulary } from "./tokenizer.js";

/**
 * Loads model and tokenizer of a GGUF file.
 *
 * @example
 * const { model, tokenizer } = await loadGgufLlama("model.gguf");
 * const logits = await model.forward(tokenizer.encode("Once"), cache, { logits: "last" });
 */
export async function loadGgufLlama(
  path: string,
): Promise<{ model: LlamaModel; tokenizer: Tokenizer }> {
  const file = await readGguf(path);
  return { model: new LlamaModel(file), tokenizer: tokenizerFromGguf(file) };
}
