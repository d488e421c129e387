/** The needle prompts of an evaluation: every length, depth and seed, several texts each. */
import { fitSentences } from "./held-out.js";
import { type NeedleTokenizer, type NeedleTokens, needle, tokenizeNeedle } from "./needle.js";

/** What is asked for. */
export interface PromptPlan {
  /** Tokens of context, at most. */
  readonly lengths: readonly number[];
  /** Places of the asked fact, 0 to 1. */
  readonly depths: readonly number[];
  readonly seeds: readonly number[];
  /** Texts per length, depth and seed. */
  readonly prompts: number;
}

/** One prompt's place in the plan. */
export interface PromptPlace {
  readonly length: number;
  readonly depth: number;
  /** Seed of its text. */
  readonly seed: number;
}

/** Seeds of texts stay apart: a plan's seed times this, plus the number of the text. */
const kSeedStride = 1_000_000;

/** The places, shortest first; no two have the same text. */
export function placesOf({ lengths, depths, seeds, prompts }: PromptPlan): PromptPlace[] {
  const cells = lengths.flatMap((length) => depths.map((depth) => ({ length, depth })));
  return cells.flatMap((cell, c) =>
    seeds.flatMap((seed) =>
      Array.from({ length: prompts }, (_, i) => ({
        ...cell,
        seed: seed * kSeedStride + c * prompts + i,
      })),
    ),
  );
}

const kFacts = 8;
const kTokensPerFact = 40; // short contexts get fewer facts, so that narrative is left between them

/** The prompt of a place: as many sentences as fit its length, one at least. */
export function promptAt(
  tokenizer: NeedleTokenizer,
  { length, depth, seed }: PromptPlace,
): NeedleTokens {
  const facts = Math.max(1, Math.min(kFacts, Math.floor(length / kTokensPerFact)));
  const at = (sentences: number) => needle({ seed, sentences, depth, facts });
  const sentences = fitSentences(length, (count) => tokenizer.encode(at(count).context).length);
  return tokenizeNeedle(tokenizer, at(sentences));
}
