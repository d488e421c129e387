/** The tokenizers of the example runtime against llama.cpp's, on generated vocabularies of every kind. */
import { mkdtemp, rm, writeFile } from "node:fs/promises";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { afterAll, beforeAll, describe, expect, it } from "vitest";
import { needle } from "../../lib/eval/index.ts";
import { Random } from "../../lib/eval/random.ts";
import { readGguf, tokenizerFromGguf } from "../../lib/runtimes/gguf-llama/index.ts";
import { hasLlamaCpp, llamaCppTokens } from "../cross-check/llama-cpp.ts";
import type { Value } from "./gguf-writer.ts";
import { smallModel } from "./small-model.ts";
import { bytePairVocabulary, sentencePieceVocabulary } from "./small-vocabularies.ts";

const fragments = [
  "  two spaces, a tab\tand\r\n\r\nlines  \n",
  "It's we've I'LL they'd 'tis o'clock don''t",
  "naïve café – 12 345 67890 — ÆØÅ ß 3.14159, 2024-11-22",
  "数字 и буквы, emoji 🧶🪡 ١٢٣ ½ ﬁ e\u0301",
  "<s> and </s> are plain text, a <tool call> is not<tool call><tool call>",
  'if (a[0] == "b") { return c->d++; } // !?...\n\n\n\tend',
  "▁ is U+2581; a no-break\u00a0space, a thin\u2009space",
];
const story = needle({ seed: 3, sentences: 12, depth: 0.5 }).text;
/** Without "<s>": llama.cpp joins pieces to a control token where they spell one, SentencePiece and this runtime do not. */
const learned = [story, ...fragments, ...fragments].join(" ").replaceAll(/<.?s>/g, "");

/** Seeded mixtures of everything. */
const mixtures = (() => {
  const random = new Random(29);
  const letters = Array.from(fragments.join(""));
  return Array.from({ length: 60 }, () =>
    Array.from({ length: 1 + Math.floor(random.unit() * 60) }, () =>
      random.unit() < 0.2 ? random.pick(fragments) : random.pick(letters),
    ).join(""),
  );
})();
const texts = [story, ...fragments, ...mixtures, " ", "a", "\n", "  x"];

const vocabularies: Record<string, Record<string, Value>> = {
  "byte pairs, qwen2": bytePairVocabulary(learned, 300, "qwen2"),
  "byte pairs, llama-bpe": bytePairVocabulary(learned, 300, "llama-bpe"),
  "byte pairs, gpt-2": bytePairVocabulary(learned, 300, "gpt-2"),
  "byte pairs, smollm": bytePairVocabulary(learned, 300, "smollm"),
  "sentence pieces": sentencePieceVocabulary(learned, 300),
  "sentence pieces, no space in front": sentencePieceVocabulary(learned, 300, {
    "tokenizer.ggml.add_space_prefix": false,
    "tokenizer.ggml.add_bos_token": false,
  }),
};

let folder: string;
beforeAll(async () => {
  folder = await mkdtemp(join(tmpdir(), "spindlekv-tokens-"));
});
afterAll(() => rm(folder, { recursive: true }));

describe.skipIf(!hasLlamaCpp).each(Object.entries(vocabularies))("%s", (name, vocabulary) => {
  it("give the tokens of llama.cpp", async () => {
    const path = join(folder, `${name.replaceAll(/\W+/g, "-")}.gguf`);
    await writeFile(
      path,
      smallModel({ architecture: "llama", weights: "f32", seed: 1 }, vocabulary),
    );
    const tokenizer = tokenizerFromGguf(await readGguf(path));
    const theirs = await llamaCppTokens(path, texts);
    const frame = tokenizer.bos === null ? 0 : 1;
    for (const [i, text] of texts.entries()) {
      const ours = tokenizer.encode(text);
      expect(Array.from(ours.subarray(frame)), JSON.stringify(text)).toEqual(theirs[i].ids);
      // Sentence pieces know no "▁" apart from the space, and start anew with a space after a special token.
      if (frame === 1 && !/▁|<tool call>/.test(text)) expect(tokenizer.decode(ours)).toBe(text);
    }
    // Short of a token for each byte: the vocabulary is in use.
    const ids = theirs.flatMap(({ ids }) => ids);
    expect(ids.length).toBeLessThan(
      0.8 * texts.reduce((sum, text) => sum + Buffer.byteLength(text), 0),
    );
  });
});
