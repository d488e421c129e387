/**
 * SentencePiece's byte-pair model: of all neighbours that together are a piece, the ones whose piece has the highest
 * score are joined (the leftmost of equals), until none are left; a character that is no piece is spelt in its UTF-8
 * bytes. Spaces are written "▁", one more is put in front of a text.
 * Pieces never join to a control token or to a byte token; in llama.cpp they do where they spell one.
 * Cost: a heap of neighbours, O(n log n) for n characters, as texts are not cut before.
 * Source: Kudo and Richardson 2018 (arXiv 1808.06226); the order of joins as in llama.cpp's "llama" tokenizer.
 */
import { fileError } from "./failures.js";
import { MaxHeap } from "./max-heap.js";
import type { Spelling } from "./tokenizer.js";
import type { Vocabulary } from "./vocabulary.js";

const kSpace = "▁";

/** Neighbours that may be joined, as long as they are still `length` UTF-16 units together. */
interface Neighbours {
  readonly left: number;
  readonly right: number;
  readonly score: number;
  readonly length: number;
}

/**
 * @param scores by token id
 * @param addsSpace whether a space goes in front of a text
 * @throws Error when a byte has no token
 */
export function sentencePieces(
  vocabulary: Vocabulary,
  scores: readonly number[],
  addsSpace: boolean,
): Spelling {
  const ids = new Map<string, number>();
  const byteIds = new Map<number, number>();
  const bytes = new Map<number, Uint8Array>();
  vocabulary.tokens.forEach((token, id) => {
    const kind = vocabulary.kinds[id];
    if (kind === "normal" || kind === "userDefined") ids.set(token, id);
    if (kind !== "byte") return;
    const byte = byteOf(token);
    byteIds.set(byte, id);
    bytes.set(id, Uint8Array.of(byte));
  });
  if (byteIds.size !== 256) {
    throw fileError(
      `tokenizer: expected a token for each of the 256 bytes, got ${byteIds.size} of them`,
    );
  }
  const encoder = new TextEncoder();
  const spell = (piece: string) =>
    ids.get(piece) ?? Array.from(encoder.encode(piece), (byte) => byteIds.get(byte) as number);
  return {
    encode: (text, isStart) => {
      const spaced = (addsSpace && isStart ? ` ${text}` : text).replaceAll(" ", kSpace);
      return joined(spaced, ids, scores).flatMap(spell);
    },
    bytesOf: (id) => bytes.get(id) ?? encoder.encode(vocabulary.tokens[id].replaceAll(kSpace, " ")),
    addsSpace,
  };
}

/** The pieces of `text`, in order. */
function joined(text: string, ids: ReadonlyMap<string, number>, scores: readonly number[]) {
  // A piece stands where its first character stood; "" was joined to one before.
  const pieces = Array.from(text);
  const next = pieces.map((_, i) => i + 1);
  const previous = pieces.map((_, i) => i - 1);
  const queue = new MaxHeap<Neighbours>(
    (a, b) => a.score > b.score || (a.score === b.score && a.left < b.left),
  );
  const offer = (left: number, right: number) => {
    if (left < 0 || right >= pieces.length) return;
    const id = ids.get(pieces[left] + pieces[right]);
    if (id === undefined) return;
    const length = pieces[left].length + pieces[right].length;
    queue.push({ left, right, score: scores[id], length });
  };
  for (let i = 0; i + 1 < pieces.length; i++) offer(i, i + 1);
  for (let best = queue.pop(); best !== undefined; best = queue.pop()) {
    const { left, right, length } = best;
    if (pieces[left] === "" || pieces[right] === "") continue;
    if (pieces[left].length + pieces[right].length !== length) continue;
    pieces[left] += pieces[right];
    pieces[right] = "";
    next[left] = next[right];
    if (next[left] < pieces.length) previous[next[left]] = left;
    offer(previous[left], left);
    offer(left, next[left]);
  }
  return pieces.filter((piece) => piece !== "");
}

/** "<0x0A>" is 10. */
function byteOf(token: string): number {
  const digits = /^<0x([0-9A-F]{2})>$/.exec(token)?.[1];
  if (digits === undefined) {
    throw fileError(`tokenizer: expected byte tokens like <0x0A>, got "${token}"`);
  }
  return Number.parseInt(digits, 16);
}
