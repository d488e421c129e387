/** The example runtime: a small Llama-architecture GGUF model whose attention lives in a cache. */
import { readGguf } from "./gguf.ts";
import { LlamaModel } from "./model.ts";
import { type Tokenizer, tokenizerFromGguf } from "./tokenizer.ts";

export type { AttentionCache, AttentionLayer } from "./cache-port.ts";
export { configFromGguf, type LlamaConfig } from "./config.ts";
export {
  type GgufFile,
  type GgufTensorInfo,
  type GgufValue,
  parseGguf,
  readGguf,
} from "./gguf.ts";
export { type ForwardOptions, LlamaModel } from "./model.ts";
export { Tokenizer, tokenizerFromGguf, type Vocabulary } from "./tokenizer.ts";

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
