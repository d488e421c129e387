/**
 * Tokenizer metadata for generated models, learned from a text. Merges and pieces are learned across everything,
 * spaces and digits too, so that a wrong cut of the text changes its tokens.
 */
import { Random } from "../../lib/eval/random.ts";
import type { Value } from "./gguf-writer.ts";

const kNormal = 1;
const kUnknown = 2;
const kControl = 3;
const kUserDefined = 4;
const kByte = 6;

/** GPT-2's alphabet: byte to character. */
export const byteAlphabet: readonly string[] = (() => {
  let next = 256;
  return Array.from({ length: 256 }, (_, byte) => {
    const isVisible = (byte > 32 && byte < 127) || (byte > 160 && byte !== 173);
    return String.fromCodePoint(isVisible ? byte : next++);
  });
})();

/** The pair of neighbours that occurs most (the first of equals), joined everywhere; null when none occurs twice. */
function joinBest(symbols: string[], forbidden: ReadonlySet<string>): [string, string] | null {
  const counts = new Map<string, { pair: [string, string]; count: number }>();
  for (let i = 0; i + 1 < symbols.length; i++) {
    const key = `${symbols[i]}\n${symbols[i + 1]}`;
    if (forbidden.has(symbols[i] + symbols[i + 1])) continue;
    const entry = counts.get(key) ?? { pair: [symbols[i], symbols[i + 1]], count: 0 };
    entry.count++;
    counts.set(key, entry);
  }
  const best = [...counts.values()].reduce((a, b) => (b.count > a.count ? b : a), {
    pair: ["", ""] as [string, string],
    count: 1,
  });
  if (best.count < 2) return null;
  const [left, right] = best.pair;
  for (let i = 0; i + 1 < symbols.length; i++) {
    if (symbols[i] === left && symbols[i + 1] === right) symbols.splice(i, 2, left + right);
  }
  return best.pair;
}

/** Byte-level BPE with up to `merges` merges; 0 is <s>, 1 is the user-defined <tool call>. */
export function bytePairVocabulary(
  text: string,
  merges: number,
  pre: string,
  more: Record<string, Value> = {},
): Record<string, Value> {
  const symbols = Array.from(Buffer.from(text), (byte) => byteAlphabet[byte]);
  const tokens = ["<s>", "<tool call>", ...byteAlphabet];
  const joined: string[] = [];
  while (joined.length < merges) {
    const pair = joinBest(symbols, new Set(tokens));
    if (pair === null) break;
    joined.push(pair.join(" "));
    tokens.push(pair.join(""));
  }
  return {
    "tokenizer.ggml.model": "gpt2",
    "tokenizer.ggml.pre": pre,
    "tokenizer.ggml.tokens": tokens,
    "tokenizer.ggml.token_type": {
      i32: tokens.map((_, id) => [kControl, kUserDefined][id] ?? kNormal),
    },
    "tokenizer.ggml.merges": joined,
    "tokenizer.ggml.bos_token_id": 0,
    "tokenizer.ggml.eos_token_id": 0,
    ...more,
  };
}

/** SentencePiece's: <unk>, <s>, </s>, a user-defined token, the bytes, then pieces with seeded scores, some equal. */
export function sentencePieceVocabulary(
  text: string,
  pieces: number,
  more: Record<string, Value> = {},
): Record<string, Value> {
  const random = new Random(17);
  const symbols = Array.from(` ${text}`.replaceAll(" ", "▁"));
  const bytes = Array.from(
    { length: 256 },
    (_, byte) => `<0x${byte.toString(16).toUpperCase().padStart(2, "0")}>`,
  );
  const special = ["<unk>", "<s>", "</s>", "<tool call>", ...bytes];
  // Letters the text has, but for one in ten: those are spelt in bytes.
  const letters = [...new Set(symbols)].filter((_, i) => i % 10 !== 9);
  const tokens = [...special, ...letters];
  while (tokens.length < special.length + letters.length + pieces) {
    const pair = joinBest(symbols, new Set(tokens));
    if (pair === null) break;
    tokens.push(pair.join(""));
  }
  const types = [kUnknown, kControl, kControl, kUserDefined];
  return {
    "tokenizer.ggml.model": "llama",
    "tokenizer.ggml.pre": "default",
    "tokenizer.ggml.tokens": tokens,
    "tokenizer.ggml.scores": {
      f32: tokens.map((_, id) => (id < special.length ? 0 : -Math.floor(random.unit() * 60))),
    },
    "tokenizer.ggml.token_type": {
      i32: tokens.map((_, id) => types[id] ?? (id < special.length ? kByte : kNormal)),
    },
    "tokenizer.ggml.bos_token_id": 1,
    "tokenizer.ggml.eos_token_id": 2,
    "tokenizer.ggml.unknown_token_id": 0,
    ...more,
  };
}
