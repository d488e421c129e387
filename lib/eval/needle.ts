/**
 * Needle questions: facts hidden in a narrative, one of them asked for at the end.
 * A prompt is a pure function of its options (grammar: corpus.ts, generator: random.ts).
 */
import { answers, attributes, fact, names, question, sentence } from "./corpus.js";
import { Random } from "./random.js";

/** What determines a prompt. */
export interface NeedleOptions {
  /** Seed of the text. */
  readonly seed: number;
  /** Sentences of the haystack, facts not counted; about 15 tokens each with recall.gguf. */
  readonly sentences: number;
  /** Place of the asked fact: 0 the beginning, 1 the end. */
  readonly depth: number;
  /** Facts in the text, 1 to 64; all but the asked one are distractors. Default 8. */
  readonly facts?: number;
}

/** A prompt in its parts: `text` = `context` + `question`. */
export interface Needle {
  /** Narrative and facts. */
  readonly context: string;
  /** The question, with the space in front. */
  readonly question: string;
  /** What should follow, with the space in front. */
  readonly answer: string;
  readonly text: string;
}

/** Writes a prompt. @throws Error for options outside their range */
export function needle(options: NeedleOptions): Needle {
  const { seed, sentences, depth, facts = 8 } = options;
  if (!Number.isInteger(sentences) || sentences < 1) {
    throw new Error(`needle: expected a whole number above 0 for sentences, got ${sentences}`);
  }
  if (!(depth >= 0 && depth <= 1)) {
    throw new Error(`needle: expected 0 to 1 for depth, got ${depth}`);
  }
  if (!Number.isInteger(facts) || facts < 1 || facts > names.length) {
    throw new Error(`needle: expected 1 to ${names.length} for facts, got ${facts}`);
  }
  const random = new Random(seed);
  const known = random.sample(names, facts).map((name) => ({
    name,
    attribute: random.pick(attributes),
    answer: random.pick(answers),
  }));
  const asked = known[0];
  const factsBefore: string[][] = Array.from({ length: sentences + 1 }, () => []);
  for (const each of known) {
    const place = each === asked ? depth : random.unit();
    const at = Math.round(place * sentences);
    factsBefore[at].push(fact(each.attribute, each.name, each.answer));
  }
  const lines = factsBefore.flatMap((stated, i) =>
    i < sentences ? [...stated, sentence(random)] : stated,
  );
  const context = lines.join(" ");
  const ask = ` ${question(asked.attribute, asked.name)}`;
  return { context, question: ask, answer: ` ${asked.answer}`, text: context + ask };
}

/** What {@link tokenizeNeedle} needs of a tokenizer. */
export interface NeedleTokenizer {
  encode(text: string): Int32Array;
  /** The UTF-8 bytes of a token; none for a control token. */
  bytesOf(id: number): Uint8Array;
}

/** A prompt in tokens. */
export interface NeedleTokens {
  readonly context: Int32Array;
  readonly question: Int32Array;
  readonly answer: Int32Array;
}

/**
 * Tokenises the whole text at once and cuts the tokens where context, question and answer meet, so that
 * no token differs from what the model would see without the cuts. A token that spans a cut belongs to the part
 * behind it: an answer that begins within a token is predicted with that token.
 *
 * @throws Error when a part has no token of its own
 */
export function tokenizeNeedle(tokenizer: NeedleTokenizer, prompt: Needle): NeedleTokens {
  const whole = prompt.text + prompt.answer;
  const ids = tokenizer.encode(whole);
  // SentencePiece tokenizers put a space in front of the text.
  const bytes = ids.reduce((sum, id) => sum + tokenizer.bytesOf(id).length, 0);
  const added = bytes - Buffer.byteLength(whole);
  const first = tokensOf(tokenizer, ids, added + Buffer.byteLength(prompt.context));
  const second = tokensOf(tokenizer, ids, added + Buffer.byteLength(prompt.text));
  const parts = {
    context: ids.slice(0, first),
    question: ids.slice(first, second),
    answer: ids.slice(second),
  };
  for (const [name, tokens] of Object.entries(parts)) {
    if (tokens.length === 0) {
      throw new Error(`tokenizeNeedle: expected tokens of its own for ${name}, got none`);
    }
  }
  return parts;
}

/** How many tokens lie within the first `bytes` bytes of the text. */
function tokensOf(tokenizer: NeedleTokenizer, ids: Int32Array, bytes: number): number {
  let seen = 0;
  const spanning = ids.findIndex((id) => {
    seen += tokenizer.bytesOf(id).length;
    return seen > bytes;
  });
  return spanning < 0 ? ids.length : spanning;
}
