/**
 * Loss by position of a text far longer than the model was trained on. Positions of a full cache grow past
 * what the model knows; a cache with a cap and re-indexed positions stays within it (StreamingLLM).
 */
import { feed } from "./perplexity.js";
import type { TrialCache, TrialModel } from "./choices.js";

/** Mean loss of the tokens at positions `from` to `to` - 1. */
export interface LossBlock {
  readonly from: number;
  readonly to: number;
  /** -ln p of a token, mean. */
  readonly loss: number;
}

export interface LongTextOptions {
  readonly model: TrialModel;
  readonly tokens: Int32Array;
  /** An empty cache of the method; disposed here. */
  readonly cache: TrialCache;
  /** Tokens per block. */
  readonly blockTokens: number;
  /** Tokens fed at a time: a capped cache holds at most so many more than its cap. */
  readonly pieceTokens: number;
  readonly onBlock?: (done: number) => void;
}

/** Feeds the text from its beginning. The last token is predicted only. */
export async function lossByPosition(options: LongTextOptions): Promise<LossBlock[]> {
  const { model, tokens, cache, blockTokens, pieceTokens, onBlock } = options;
  const blocks: LossBlock[] = [];
  try {
    for (let from = 0; from + 1 < tokens.length; from += blockTokens) {
      const to = Math.min(from + blockTokens, tokens.length - 1);
      const targets = tokens.subarray(from + 1, to + 1);
      const losses = await feed(model, cache, tokens.subarray(from, to), targets, pieceTokens);
      const loss = losses.reduce((sum, each) => sum + each, 0) / losses.length;
      blocks.push({ from, to, loss });
      onBlock?.(blocks.length);
    }
  } finally {
    cache.dispose();
  }
  return blocks;
}
