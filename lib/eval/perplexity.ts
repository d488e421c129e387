/**
 * Perplexity of held-out text under a compressed cache. The first part of a text is prefilled once and each
 * method compresses a fork of it; the rest is fed in pieces, teacher-forced, and the loss is
 *   mean over the rest of -ln p(token | everything before it)
 * so every counted token is predicted from the compressed cache. Methods with a schedule of their own go on
 * evicting between the pieces.
 */
import {
  choicesOf,
  compressFork,
  logSoftmax,
  nameOf,
  nativeLayerBytes,
  type RefusalListener,
  type TrialCache,
  type TrialChoice,
  type TrialMethod,
  type TrialModel,
} from "./choices.js";
import type { TrialProgress } from "./trials.js";

/** A text in tokens, cut where compression happens. */
export interface HeldOutText {
  /** At least two tokens. */
  readonly prompt: Int32Array;
  /** What is predicted; at least one token. */
  readonly rest: Int32Array;
}

/** Which measurement: a method at a keep value on one text. */
export interface TextKey extends TrialChoice {
  /** Index of the text. */
  readonly text: number;
}

export interface TextTrial extends TextKey {
  /** Tokens in the cache when it was compressed. */
  readonly tokens: number;
  /** Bytes right after compression, as a fraction of the native f16 bytes of the same tokens. */
  readonly bytes: number;
  /** Mean negative log-probability of a token of the rest, in nats. */
  readonly loss: number;
}

export interface RunTextsOptions {
  readonly model: TrialModel;
  readonly texts: readonly HeldOutText[];
  readonly methods: readonly TrialMethod[];
  readonly keeps: readonly number[];
  readonly openCache: () => TrialCache;
  /** Tokens fed at a time. Default 32. */
  readonly pieceTokens?: number;
  readonly onProgress?: (progress: TrialProgress) => void;
  readonly isDone?: (key: TextKey) => boolean;
  readonly onTrial?: (trial: TextTrial) => void | Promise<void>;
  readonly onRefusal?: RefusalListener<TextKey>;
}

const kPieceTokens = 32;

/** Runs every combination that is not done. @throws whatever the cache throws, refusals apart */
export async function runTexts(options: RunTextsOptions): Promise<TextTrial[]> {
  const { model, onProgress } = options;
  const choices = choicesOf(options.methods, options.keeps);
  const open = options.texts.map((_, text) =>
    choices.map((choice) => ({ text, ...choice })).filter((key) => options.isDone?.(key) !== true),
  );
  const total = open.flat().length;
  const trials: TextTrial[] = [];
  let done = 0;
  for (const [text, { prompt, rest }] of options.texts.entries()) {
    if (open[text].length === 0) continue;
    onProgress?.({ done, total, label: `text ${text + 1}, prefill` });
    const base = options.openCache();
    try {
      // The prompt's last token is the first that is fed: its logits predict the rest's first token.
      const seen = prompt.subarray(0, -1);
      const fed = Int32Array.from([prompt[prompt.length - 1], ...rest.subarray(0, -1)]);
      await model.forward(seen, base, { logits: "last" });
      for (const key of open[text]) {
        onProgress?.({ done, total, label: `text ${text + 1}, ${nameOf(key)}` });
        const trial = await runText(options, base, key, seen.length, fed, rest);
        if (trial !== undefined) {
          trials.push(trial);
          await options.onTrial?.(trial);
        }
        done++;
      }
    } finally {
      base.dispose();
    }
  }
  onProgress?.({ done: total, total, label: "done" });
  return trials;
}

async function runText(
  options: RunTextsOptions,
  base: TrialCache,
  key: TextKey,
  tokens: number,
  fed: Int32Array,
  rest: Int32Array,
): Promise<TextTrial | undefined> {
  const { model, pieceTokens = kPieceTokens } = options;
  const fork = await compressFork(base, key, options.onRefusal);
  if (fork === undefined) return undefined;
  const { cache } = fork;
  try {
    const { total, perLayer } = cache.stats();
    const losses = await feed(model, cache, fed, rest, pieceTokens);
    const bytes = total / (nativeLayerBytes(model, tokens) * perLayer.length);
    return {
      ...key,
      tokens,
      bytes,
      loss: losses.reduce((sum, loss) => sum + loss, 0) / rest.length,
    };
  } finally {
    cache.dispose();
  }
}

/**
 * Feeds `tokens` in pieces behind what the cache holds.
 *
 * @param targets what should follow each of them, same length
 * @returns -ln p of each target
 */
export async function feed(
  model: TrialModel,
  cache: TrialCache,
  tokens: Int32Array,
  targets: Int32Array,
  pieceTokens: number,
): Promise<number[]> {
  const { vocabulary } = model.config;
  const losses: number[] = [];
  for (let start = 0; start < tokens.length; start += pieceTokens) {
    const piece = tokens.subarray(start, start + pieceTokens);
    const logits = await model.forward(piece, cache, { logits: "all" });
    for (let i = 0; i < piece.length; i++) {
      const row = logits.subarray(i * vocabulary, (i + 1) * vocabulary);
      losses.push(-logSoftmax(row, targets[start + i]));
    }
  }
  return losses;
}
