/**
 * Text to token ids and back. What a GGUF file says of special tokens is the same for all kinds of tokenizers and is
 * done here; how text is spelt in tokens differs (byte-pairs.ts, sentence-pieces.ts).
 *
 * Control tokens inside a text are read as plain text; user-defined ones are themselves, the longest first.
 */
import { bytePairs } from "./byte-pairs.js";
import { callError, fileError } from "./failures.js";
import type { GgufFile } from "./gguf.js";
import { preTokenizers } from "./pre-tokenizers.js";
import { sentencePieces } from "./sentence-pieces.js";
import {
  tokenizerStrings,
  tokenizerValue,
  type Vocabulary,
  vocabularyFromGguf,
} from "./vocabulary.js";

/** How a kind of tokenizer writes text without special tokens. */
export interface Spelling {
  /** @param isStart whether nothing, or a special token, stands before the text */
  encode(text: string, isStart: boolean): readonly number[];
  /** The UTF-8 bytes of a normal or byte token. */
  bytesOf(id: number): Uint8Array;
  /** Whether encoding puts a space in front of a text. */
  readonly addsSpace: boolean;
}

const nothing = new Uint8Array(0);

/** Text to token ids and back. */
export class Tokenizer {
  /** Token put in front of every text, or null for none. */
  readonly bos: number | null;
  /** Token put behind every text, or null for none. */
  readonly eos: number | null;
  readonly size: number;
  private readonly vocabulary: Vocabulary;
  private readonly spelling: Spelling;
  private readonly userDefined: readonly number[];

  constructor(vocabulary: Vocabulary, spelling: Spelling) {
    const { tokens, kinds, bos, eos } = vocabulary;
    this.bos = bos;
    this.eos = eos;
    this.size = tokens.length;
    this.vocabulary = vocabulary;
    this.spelling = spelling;
    this.userDefined = [...tokens.keys()]
      .filter((id) => kinds[id] === "userDefined" && tokens[id] !== "")
      .sort((a, b) => Buffer.byteLength(tokens[b]) - Buffer.byteLength(tokens[a]));
  }

  /** Token ids of `text`, between the tokens the model wants in front and behind. */
  encode(text: string): Int32Array {
    const ids: number[] = this.bos === null ? [] : [this.bos];
    let isStart = true;
    for (const part of this.partsOf(text)) {
      if (typeof part === "number") ids.push(part);
      else for (const id of this.spelling.encode(part, isStart)) ids.push(id);
      isStart = typeof part === "number";
    }
    if (this.eos !== null) ids.push(this.eos);
    return Int32Array.from(ids);
  }

  /**
   * The text of `ids`; control tokens give nothing, incomplete UTF-8 gives U+FFFD. The space that encoding puts in
   * front of a text goes again where `ids` begin with `bos`, as whole texts do.
   */
  decode(ids: ArrayLike<number>): string {
    const parts = Array.from(ids, (id) => this.bytesOf(id));
    const text = new TextDecoder("utf-8", { ignoreBOM: true }).decode(Buffer.concat(parts));
    const isWhole = this.spelling.addsSpace && this.bos !== null && ids[0] === this.bos;
    return isWhole && text.startsWith(" ") ? text.slice(1) : text;
  }

  /** The UTF-8 bytes a token stands for; none for a control token. */
  bytesOf(id: number): Uint8Array {
    switch (this.vocabulary.kinds[id]) {
      case "normal":
      case "byte":
        return this.spelling.bytesOf(id);
      case "userDefined":
        return new TextEncoder().encode(this.vocabulary.tokens[id]);
      case undefined:
        throw callError(`tokenizer: expected a token id of 0 to ${this.size - 1}, got ${id}`);
      default:
        return nothing;
    }
  }

  /** The text cut at its user-defined tokens. */
  private partsOf(text: string): readonly (string | number)[] {
    let parts: (string | number)[] = [text];
    for (const id of this.userDefined) {
      parts = parts.flatMap((part) =>
        typeof part === "number"
          ? part
          : part
              .split(this.vocabulary.tokens[id])
              .flatMap((rest, i) => (i === 0 ? rest : [id, rest])),
      );
    }
    return parts.filter((part) => part !== "");
  }
}

/** The tokenizer a GGUF file describes. @throws Error when it is of another kind */
export function tokenizerFromGguf(file: GgufFile): Tokenizer {
  const model = tokenizerValue(file, "model");
  if (model === "gpt2") return bytePairTokenizer(file);
  if (model === "llama") return sentencePieceTokenizer(file);
  throw fileError(`tokenizer: expected tokenizer.ggml.model "gpt2" or "llama", got "${model}"`);
}

function bytePairTokenizer(file: GgufFile): Tokenizer {
  const name = tokenizerValue(file, "pre");
  if (typeof name !== "string" || !Object.hasOwn(preTokenizers, name)) {
    throw fileError(
      `tokenizer: expected tokenizer.ggml.pre to be one of ${Object.keys(preTokenizers).join(", ")}, got "${name}"`,
    );
  }
  if (tokenizerValue(file, "add_space_prefix") === true) {
    throw fileError("tokenizer: expected no add_space_prefix with byte pairs, got one");
  }
  const pre = preTokenizers[name];
  const vocabulary = vocabularyFromGguf(file, { addsBos: pre.addsBos });
  return new Tokenizer(vocabulary, bytePairs(vocabulary, tokenizerStrings(file, "merges"), pre));
}

function sentencePieceTokenizer(file: GgufFile): Tokenizer {
  if (tokenizerValue(file, "remove_extra_whitespaces") === true) {
    throw fileError("tokenizer: expected remove_extra_whitespaces to be false, got true");
  }
  const vocabulary = vocabularyFromGguf(file, { addsBos: true, bos: 1, eos: 2 });
  const scores = tokenizerValue(file, "scores");
  if (!Array.isArray(scores) || scores.length !== vocabulary.tokens.length) {
    throw fileError(
      `tokenizer: expected ${vocabulary.tokens.length} numbers for tokenizer.ggml.scores`,
    );
  }
  const addsSpace = tokenizerValue(file, "add_space_prefix") !== false;
  return new Tokenizer(vocabulary, sentencePieces(vocabulary, scores as number[], addsSpace));
}
