/**
 * Held-out text in the grammar of the needle prompts: narrative with facts in its first part, narrative with
 * questions about them and their answers in the second. So some tokens of the second part can only be
 * predicted from far behind; the rest measures the language. Or the user's own text, cut into windows.
 */
import { spindleError } from "../errors.js";
import { answers, attributes, fact, names, question, sentence } from "./corpus.js";
import type { HeldOutText } from "./perplexity.js";
import { Random } from "./random.js";

/** What determines a document. */
export interface DocumentOptions {
  readonly seed: number;
  /** Sentences of narrative in the first part, which has the facts. */
  readonly sentences: number;
  /** Sentences of narrative in the second part, which has the questions. */
  readonly sentencesBehind: number;
  /** Facts, 1 to 64. */
  readonly facts: number;
  readonly questions: number;
}

/** Writes a document in its two parts. @throws Error for more facts than there are names */
export function heldOutDocument(options: DocumentOptions): { first: string; second: string } {
  const { seed, sentences, sentencesBehind, facts, questions } = options;
  if (!Number.isInteger(facts) || facts < 1 || facts > names.length) {
    throw new Error(`heldOutDocument: expected 1 to ${names.length} for facts, got ${facts}`);
  }
  const random = new Random(seed);
  const known = random.sample(names, facts).map((name) => ({
    name,
    attribute: random.pick(attributes),
    answer: random.pick(answers),
  }));
  const stated = known.map(({ attribute, name, answer }) => fact(attribute, name, answer));
  const first = narrative(random, sentences, stated);
  const asked = Array.from({ length: questions }, () => {
    const { attribute, name, answer } = random.pick(known);
    return `${question(attribute, name)} ${answer}.`;
  });
  return { first, second: narrative(random, sentencesBehind, asked) };
}

/** So many sentences, with the given ones in between at random places. */
function narrative(random: Random, sentences: number, between: readonly string[]): string {
  const before: string[][] = Array.from({ length: sentences + 1 }, () => []);
  for (const line of between) before[random.below(sentences + 1)].push(line);
  return before
    .flatMap((lines, i) => (i < sentences ? [...lines, sentence(random)] : lines))
    .join(" ");
}

interface Encoder {
  encode(text: string): Int32Array;
}

/** Tokens of the part that is compressed and of the part that is predicted. */
export interface TextLengths {
  readonly promptTokens: number;
  readonly restTokens: number;
}

const kTokensPerSentence = 15; // with recall.gguf
const kTokensPerFact = 80;
const kTokensPerQuestion = 40;
const kLeastTokensPerSentence = 5;

/** The largest number of sentences, 1 at least, whose text has at most `tokens` tokens. */
export function fitSentences(tokens: number, tokensOf: (sentences: number) => number): number {
  let fits = 1;
  let tooMany = Math.ceil(tokens / kLeastTokensPerSentence) + 2;
  while (tooMany - fits > 1) {
    const middle = Math.floor((fits + tooMany) / 2);
    if (tokensOf(middle) <= tokens) fits = middle;
    else tooMany = middle;
  }
  return fits;
}

/** Documents of the generator, one per seed. A prompt ends with a sentence: it may be one shorter than asked for. */
export function generatedTexts(
  tokenizer: Encoder,
  seeds: readonly number[],
  { promptTokens, restTokens }: TextLengths,
): HeldOutText[] {
  return seeds.map((seed) => {
    const document = {
      seed,
      sentencesBehind: Math.ceil(restTokens / kLeastTokensPerSentence),
      facts: Math.min(names.length, Math.max(1, Math.floor(promptTokens / kTokensPerFact))),
      questions: 0,
    };
    const sentences = fitSentences(
      promptTokens,
      (count) => tokenizer.encode(heldOutDocument({ ...document, sentences: count }).first).length,
    );
    // The second part is longer than what is read of it, so are the questions in it.
    const questions = Math.ceil(
      (document.sentencesBehind * kTokensPerSentence) / kTokensPerQuestion,
    );
    const { first, second } = heldOutDocument({ ...document, sentences, questions });
    const cut = tokenizer.encode(first).length;
    const ids = tokenizer.encode(`${first} ${second}`);
    return { prompt: ids.slice(0, cut), rest: ids.slice(cut, cut + restTokens) };
  });
}

const kShortDocumentTokens = 300; // about, with recall.gguf
const kShortDocument = { sentences: 12, sentencesBehind: 6, facts: 3, questions: 4 };

/** A text of any length in which no question is far from its fact: short documents, one behind the other. */
export function longText(tokenizer: Encoder, seed: number, tokens: number): Int32Array {
  const parts: string[] = [];
  for (let ids: Int32Array = new Int32Array(); ; ids = tokenizer.encode(parts.join(" "))) {
    if (ids.length >= tokens) return ids.slice(0, tokens);
    const missing = Math.ceil((tokens - ids.length) / kShortDocumentTokens);
    for (let i = 0; i < missing; i++) {
      const { first, second } = heldOutDocument({ ...kShortDocument, seed: seed + parts.length });
      parts.push(first, second);
    }
  }
}

/**
 * Windows of the user's text, `count` of them evenly spaced, or as many as fit without overlapping.
 *
 * @param label names the text in messages
 * @throws {SpindleKVError} ERR_SPINDLEKV_ARGUMENT when not one window fits
 */
export function ownTexts(
  tokenizer: Encoder,
  text: string,
  count: number,
  { promptTokens, restTokens }: TextLengths,
  label: string,
): HeldOutText[] {
  const wanted = promptTokens + restTokens;
  const ids = tokenizer.encode(text);
  const fitting = Math.min(count, Math.floor(ids.length / wanted));
  if (fitting === 0) {
    throw spindleError(
      "ERR_SPINDLEKV_ARGUMENT",
      "eval",
      `eval: expected at least ${wanted} tokens for text, got ${ids.length} in ${label}`,
    );
  }
  const space = Math.floor(ids.length / fitting);
  return Array.from({ length: fitting }, (_, i) => {
    const start = i * space;
    return {
      prompt: ids.slice(start, start + promptTokens),
      rest: ids.slice(start + promptTokens, start + wanted),
    };
  });
}
