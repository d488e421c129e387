/**
 * How text is cut before byte pairs are joined, by `tokenizer.ggml.pre`, as data. A model sees other tokens than in
 * training when its text is cut by another rule, so names that are not here are refused.
 * Node 20 has no (?i:), so cases are written out. `\s` is JavaScript's, which counts U+FEFF as a space and U+0085
 * not: llama.cpp has it the other way round.
 * Source: the tokenizer.json of GPT-2, Llama 3, Qwen2 and SmolLM2.
 */
export interface PreTokenizer {
  /** Applied in order, each within the pieces of the one before; what a rule does not match stays a piece. */
  readonly cuts: readonly RegExp[];
  /** A piece that is a token is that token, even where the merges would not arrive at it. */
  readonly prefersWholePieces: boolean;
  /** Whether the beginning-of-sequence token goes in front where the file does not say. */
  readonly addsBos: boolean;
}

const digit = /\p{N}/gu;
const gpt2 = /'s|'t|'re|'ve|'m|'ll|'d| ?\p{L}+| ?\p{N}+| ?[^\s\p{L}\p{N}]+|\s+(?!\S)|\s+/gu;
const llama3 =
  /'[sS]|'[tT]|'[rR][eE]|'[vV][eE]|'[mM]|'[lL][lL]|'[dD]|[^\r\n\p{L}\p{N}]?\p{L}+|\p{N}{1,3}| ?[^\s\p{L}\p{N}]+[\r\n]*|\s*[\r\n]+|\s+(?!\S)|\s+/gu;
const qwen2 =
  /'[sS]|'[tT]|'[rR][eE]|'[vV][eE]|'[mM]|'[lL][lL]|'[dD]|[^\r\n\p{L}\p{N}]?\p{L}+|\p{N}| ?[^\s\p{L}\p{N}]+[\r\n]*|\s*[\r\n]+|\s+(?!\S)|\s+/gu;

const ofLlama3: PreTokenizer = { cuts: [llama3], prefersWholePieces: true, addsBos: true };

export const preTokenizers: Readonly<Record<string, PreTokenizer>> = {
  "gpt-2": { cuts: [gpt2], prefersWholePieces: false, addsBos: false },
  "llama-bpe": ofLlama3,
  llama3: ofLlama3,
  "llama-v3": ofLlama3,
  qwen2: { cuts: [qwen2], prefersWholePieces: false, addsBos: false },
  smollm: { cuts: [digit, gpt2], prefersWholePieces: false, addsBos: false },
};

/** The pieces of `text`; joined they are the text. */
export function cutText({ cuts }: PreTokenizer, text: string): readonly string[] {
  return cuts.reduce<readonly string[]>(
    (pieces, cut) => pieces.flatMap((piece) => cutPiece(cut, piece)),
    [text],
  );
}

function cutPiece(cut: RegExp, piece: string): string[] {
  const parts: string[] = [];
  let end = 0;
  for (const match of piece.matchAll(cut)) {
    if (match.index > end) parts.push(piece.slice(end, match.index));
    parts.push(match[0]);
    end = match.index + match[0].length;
  }
  if (end < piece.length) parts.push(piece.slice(end));
  return parts;
}
