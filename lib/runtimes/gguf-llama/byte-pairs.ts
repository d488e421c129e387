/**
 * Byte-level byte-pair encoding: text is cut (pre-tokenizers.ts), the UTF-8 bytes of each piece are written in a
 * printable alphabet of 256 characters, then the adjacent pair with the lowest merge rank is joined until no pair
 * of the piece is in the merge list.
 * Sources: Sennrich et al. 2016 (arXiv 1508.07909, merges); Radford et al. 2019 (GPT-2: byte alphabet).
 */
import { fileError } from "./failures.js";
import { cutText, type PreTokenizer } from "./pre-tokenizers.js";
import type { Spelling } from "./tokenizer.js";
import type { Vocabulary } from "./vocabulary.js";

const kCachedPieces = 20_000; // pieces whose tokens are remembered; then the memory starts afresh

/** @param merges pairs "left right", best first @throws Error for a vocabulary with holes */
export function bytePairs(
  vocabulary: Vocabulary,
  merges: readonly string[],
  pre: PreTokenizer,
): Spelling {
  const ids = new Map<string, number>();
  vocabulary.tokens.forEach((token, id) => {
    if (vocabulary.kinds[id] === "normal") ids.set(token, id);
  });
  for (const character of byteToCharacter) {
    if (!ids.has(character)) {
      throw fileError(
        `tokenizer: expected a token for each of the 256 bytes, got none for "${character}"`,
      );
    }
  }
  const ranks = new Map<string, number>();
  merges.forEach((merge, rank) => {
    if (!ids.has(merge.replace(" ", ""))) {
      throw fileError(`tokenizer: expected a token for the merge "${merge}", got none`);
    }
    if (!ranks.has(merge)) ranks.set(merge, rank);
  });

  const join = (piece: string): readonly number[] => {
    const symbols = Array.from(new TextEncoder().encode(piece), (byte) => byteToCharacter[byte]);
    const whole = pre.prefersWholePieces ? ids.get(symbols.join("")) : undefined;
    if (whole !== undefined) return [whole];
    for (let at = bestPair(ranks, symbols); at >= 0; at = bestPair(ranks, symbols)) {
      symbols.splice(at, 2, symbols[at] + symbols[at + 1]);
    }
    return symbols.map((symbol) => ids.get(symbol) as number); // a byte or a merge: checked above
  };
  const known = new Map<string, readonly number[]>();
  return {
    encode: (text) =>
      cutText(pre, text).flatMap((piece) => {
        const joined = known.get(piece) ?? join(piece);
        if (known.size >= kCachedPieces) known.clear();
        known.set(piece, joined);
        return joined;
      }),
    bytesOf: (id) => Uint8Array.from(vocabulary.tokens[id], byteOf),
    addsSpace: false,
  };
}

/** Where the adjacent pair of lowest rank starts (the leftmost of equals), or -1. */
function bestPair(ranks: ReadonlyMap<string, number>, symbols: readonly string[]): number {
  let best = -1;
  let bestRank = Infinity;
  for (let i = 0; i + 1 < symbols.length; i++) {
    const rank = ranks.get(`${symbols[i]} ${symbols[i + 1]}`) ?? Infinity;
    if (rank < bestRank) {
      best = i;
      bestRank = rank;
    }
  }
  return best;
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
