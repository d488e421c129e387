/**
 * Byte-level byte-pair encoding as GGUF files of the "gpt2" tokenizer model describe it, with the
 * "qwen2" pre-tokenizer.
 *
 * Text is cut by a regular expression; the UTF-8 bytes of each piece are written in a printable
 * alphabet of 256 characters; then the adjacent pair with the lowest merge rank is joined until no
 * pair of the piece is in the merge list. Special tokens inside the text are read as plain text.
 * Sources: Sennrich et al. 2016 (arXiv 1508.07909, merges); Radford et al. 2019 (GPT-2: byte alphabet).
 * Differs from llama.cpp: `\s` is JavaScript's, which counts U+FEFF as a space and U+0085 not.
 */
import type { GgufFile, GgufValue } from "./gguf.js";
import { callError, fileError } from "./failures.js";

/** The cutting rule of the "qwen2" pre-tokenizer; Node 20 has no (?i:), so cases are written out. */
const qwen2Pieces =
  /'[sS]|'[tT]|'[rR][eE]|'[vV][eE]|'[mM]|'[lL][lL]|'[dD]|[^\r\n\p{L}\p{N}]?\p{L}+|\p{N}| ?[^\s\p{L}\p{N}]+[\r\n]*|\s*[\r\n]+|\s+(?!\S)|\s+/gu;

const kControlToken = 3; // tokenizer.ggml.token_type of <s>, </s> and the like
const kUnusedToken = 5;
const kCachedPieces = 20_000; // pieces whose tokens are remembered; then the memory starts afresh

/** What is needed to make a {@link Tokenizer}. */
export interface Vocabulary {
  /** Token texts in the byte alphabet; the index is the token id. */
  readonly tokens: readonly string[];
  /** Pairs "left right", best first. */
  readonly merges: readonly string[];
  /** Ids that stand for no text: control and unused tokens. */
  readonly silent: ReadonlySet<number>;
  /** Token put in front of every text, or null for none. */
  readonly bos: number | null;
}

/** Text to token ids and back. */
export class Tokenizer {
  readonly bos: number | null;
  readonly size: number;
  private readonly ids = new Map<string, number>();
  private readonly ranks = new Map<string, number>();
  private readonly texts: readonly Uint8Array[];
  private readonly pieces = new Map<string, readonly number[]>();

  constructor(vocabulary: Vocabulary) {
    const { tokens, merges, silent, bos } = vocabulary;
    this.bos = bos;
    this.size = tokens.length;
    tokens.forEach((token, id) => {
      if (!silent.has(id)) this.ids.set(token, id);
    });
    for (const character of byteToCharacter) {
      if (!this.ids.has(character)) {
        throw fileError(
          `tokenizer: expected a token for each of the 256 bytes, got none for "${character}"`,
        );
      }
    }
    merges.forEach((merge, rank) => {
      if (!this.ids.has(merge.replace(" ", ""))) {
        throw fileError(`tokenizer: expected a token for the merge "${merge}", got none`);
      }
      this.ranks.set(merge, rank);
    });
    this.texts = tokens.map((token, id) =>
      silent.has(id) ? new Uint8Array(0) : Uint8Array.from(token, byteOf),
    );
  }

  /** Token ids of `text`, the beginning-of-sequence token in front if the model wants one. */
  encode(text: string): Int32Array {
    const ids = this.bos === null ? [] : [this.bos];
    for (const [piece] of text.matchAll(qwen2Pieces)) ids.push(...this.encodePiece(piece));
    return Int32Array.from(ids);
  }

  /** The text of `ids`; control tokens give nothing, incomplete UTF-8 gives U+FFFD. */
  decode(ids: ArrayLike<number>): string {
    const parts = Array.from(ids, (id) => this.bytesOf(id));
    return new TextDecoder().decode(Buffer.concat(parts));
  }

  /** The UTF-8 bytes a token stands for; none for a control token. */
  bytesOf(id: number): Uint8Array {
    const bytes = this.texts[id];
    if (bytes === undefined) {
      throw callError(`tokenizer: expected a token id of 0 to ${this.size - 1}, got ${id}`);
    }
    return bytes;
  }

  private encodePiece(piece: string): readonly number[] {
    const known = this.pieces.get(piece);
    if (known !== undefined) return known;
    const symbols = Array.from(new TextEncoder().encode(piece), (byte) => byteToCharacter[byte]);
    for (let at = this.bestPair(symbols); at >= 0; at = this.bestPair(symbols)) {
      symbols.splice(at, 2, symbols[at] + symbols[at + 1]);
    }
    const ids = symbols.map((symbol) => this.ids.get(symbol) as number); // checked by the constructor
    if (this.pieces.size >= kCachedPieces) this.pieces.clear();
    this.pieces.set(piece, ids);
    return ids;
  }

  /** Where the adjacent pair of lowest rank starts (the leftmost of equals), or -1. */
  private bestPair(symbols: readonly string[]): number {
    let best = -1;
    let bestRank = Infinity;
    for (let i = 0; i + 1 < symbols.length; i++) {
      const rank = this.ranks.get(`${symbols[i]} ${symbols[i + 1]}`) ?? Infinity;
      if (rank < bestRank) {
        best = i;
        bestRank = rank;
      }
    }
    return best;
  }
}

/** The tokenizer a GGUF file describes. @throws Error when it is of another kind */
export function tokenizerFromGguf(file: GgufFile): Tokenizer {
  const get = (key: string) => file.metadata.get(`tokenizer.ggml.${key}`);
  const model = get("model");
  const pre = get("pre");
  if (model !== "gpt2" || pre !== "qwen2") {
    throw fileError(
      `tokenizer: expected model "gpt2" with pre-tokenizer "qwen2", got "${model}" with "${pre}"`,
    );
  }
  const tokens = strings(get("tokens"), "tokens");
  const types = get("token_type");
  const silent = new Set<number>();
  if (Array.isArray(types)) {
    types.forEach((type, id) => {
      if (type === kControlToken || type === kUnusedToken) silent.add(id);
    });
  }
  const bos = get("bos_token_id");
  const wantsBos = get("add_bos_token") === true;
  if (wantsBos && (typeof bos !== "number" || bos >= tokens.length)) {
    throw fileError(`tokenizer: expected bos_token_id below ${tokens.length}, got ${bos}`);
  }
  return new Tokenizer({
    tokens,
    merges: strings(get("merges"), "merges"),
    silent,
    bos: wantsBos ? (bos as number) : null,
  });
}

function strings(value: GgufValue | undefined, key: string): string[] {
  if (!Array.isArray(value) || value.some((item) => typeof item !== "string")) {
    throw fileError(`tokenizer: expected an array of strings for tokenizer.ggml.${key}`);
  }
  return value as string[];
}

/**
 * GPT-2's printable alphabet: visible Latin-1 characters stand for their own byte; the other 68 bytes
 * take the code points from 256 on, in byte order.
 */
const byteToCharacter: readonly string[] = (() => {
  let next = 256;
  return Array.from({ length: 256 }, (_, byte) => {
    const isVisible =
      (byte >= 0x21 && byte <= 0x7e) || (byte >= 0xa1 && byte <= 0xac) || byte >= 0xae;
    return String.fromCodePoint(isVisible ? byte : next++);
  });
})();

const characterToByte = new Map(byteToCharacter.map((character, byte) => [character, byte]));

function byteOf(character: string): number {
  const byte = characterToByte.get(character);
  if (byte === undefined) {
    throw fileError(
      `tokenizer: expected tokens in the byte alphabet, got the character "${character}"`,
    );
  }
  return byte;
}
