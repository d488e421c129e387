/** The part of a GGUF file's tokenizer that all kinds share: token texts, what they are, and what frames a text. */
import { fileError } from "./failures.js";
import type { GgufFile, GgufValue } from "./gguf.js";

/** What a token stands for: text, nothing (unknown, control, unused), its own text uncut, or one byte. */
export type TokenKind = "normal" | "unknown" | "control" | "userDefined" | "unused" | "byte";

/** `tokenizer.ggml.token_type` by its number. */
const kinds: readonly TokenKind[] = [
  "normal",
  "normal",
  "unknown",
  "control",
  "userDefined",
  "unused",
  "byte",
];

export interface Vocabulary {
  /** Token texts in the spelling of the tokenizer; the index is the token id. */
  readonly tokens: readonly string[];
  /** By token id. */
  readonly kinds: readonly TokenKind[];
  /** Token put in front of every text, or null for none. */
  readonly bos: number | null;
  /** Token put behind every text, or null for none. */
  readonly eos: number | null;
}

/** What holds where the file does not say. */
export interface VocabularyDefaults {
  readonly addsBos: boolean;
  readonly bos?: number;
  readonly eos?: number;
}

/** @throws Error naming the metadata that does not fit */
export function vocabularyFromGguf(file: GgufFile, defaults: VocabularyDefaults): Vocabulary {
  const tokens = tokenizerStrings(file, "tokens");
  const types = tokenizerValue(file, "token_type");
  const frame = (name: "bos" | "eos", isDefault: boolean): number | null => {
    if ((tokenizerValue(file, `add_${name}_token`) ?? isDefault) !== true) return null;
    const id = tokenizerValue(file, `${name}_token_id`) ?? defaults[name];
    if (typeof id === "number" && id < tokens.length) return id;
    throw fileError(`tokenizer: expected ${name}_token_id below ${tokens.length}, got ${id}`);
  };
  return {
    tokens,
    kinds: tokens.map((_, id) => kinds[Array.isArray(types) ? types[id] : 1] ?? "normal"),
    bos: frame("bos", defaults.addsBos),
    eos: frame("eos", false),
  };
}

export function tokenizerValue(file: GgufFile, key: string): GgufValue | undefined {
  return file.metadata.get(`tokenizer.ggml.${key}`);
}

/** @throws Error when the value is anything but a list of strings */
export function tokenizerStrings(file: GgufFile, key: string): readonly string[] {
  const value = tokenizerValue(file, key);
  if (!Array.isArray(value) || value.some((item) => typeof item !== "string")) {
    throw fileError(`tokenizer: expected an array of strings for tokenizer.ggml.${key}`);
  }
  return value as string[];
}
