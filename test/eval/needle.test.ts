import { describe, expect, it } from "vitest";
import { needle, tokenizeNeedle } from "../../lib/eval/index.ts";
import { readGguf, tokenizerFromGguf } from "../../lib/runtimes/gguf-llama/index.ts";

const tokenizer = tokenizerFromGguf(
  await readGguf(new URL("../model/recall.gguf", import.meta.url).pathname),
);
const options = { seed: 11, sentences: 40, depth: 0.5 };

describe("a needle prompt", () => {
  it("is a pure function of its options, on every machine", () => {
    expect(needle(options)).toEqual(needle(options));
    expect(needle({ seed: 1, sentences: 1, depth: 0, facts: 1 }).text).toMatchInlineSnapshot(
      `"The nickname of Zane is kernel. Sonia hid the mirror at the orchard which surprised everyone. Question: the nickname of Zane is"`,
    );
    expect(needle({ ...options, seed: 12 }).text).not.toBe(needle(options).text);
  });

  it("states the asked fact once, at its depth, and asks for it", () => {
    for (const [i, depth] of [0, 0.25, 0.5, 0.75, 1].entries()) {
      const prompt = needle({ seed: i, sentences: 100, depth });
      const asked = /^ Question: the (.+) of (\w+) is$/.exec(prompt.question);
      expect(asked).not.toBeNull();
      const stated = `The ${asked?.[1]} of ${asked?.[2]} is${prompt.answer}.`;
      const at = prompt.context.indexOf(stated);
      expect(at).toBeGreaterThanOrEqual(0);
      expect(prompt.context.lastIndexOf(stated)).toBe(at);
      expect(Math.abs(at / prompt.context.length - depth)).toBeLessThan(0.06);
      expect(prompt.text).toBe(prompt.context + prompt.question);
    }
  });

  it("states as many facts as asked for, each about another person", () => {
    for (const facts of [1, 8, 64]) {
      const { context } = needle({ ...options, facts });
      const people = [...context.matchAll(/The [a-z ]+ of (\w+) is \w+\./g)].map(
        ([, name]) => name,
      );
      expect(people).toHaveLength(facts);
      expect(new Set(people).size).toBe(facts);
    }
  });

  it("refuses options out of range", () => {
    expect(() => needle({ ...options, depth: 1.1 })).toThrow("0 to 1 for depth, got 1.1");
    expect(() => needle({ ...options, depth: Number.NaN })).toThrow("depth, got NaN");
    expect(() => needle({ ...options, sentences: 0 })).toThrow("sentences, got 0");
    expect(() => needle({ ...options, facts: 65 })).toThrow("1 to 64 for facts, got 65");
    expect(() => needle({ ...options, seed: 0.5 })).toThrow("safe integer for seed");
  });
});

describe("its tokens", () => {
  it("are those of the whole text, cut where the parts meet", () => {
    for (let seed = 0; seed < 20; seed++) {
      const prompt = needle({ ...options, seed });
      const { context, question, answer } = tokenizeNeedle(tokenizer, prompt);
      expect([...context, ...question, ...answer]).toEqual(
        Array.from(tokenizer.encode(prompt.text + prompt.answer)),
      );
      expect(tokenizer.decode(context)).toBe(prompt.context);
      expect(tokenizer.decode(question)).toBe(prompt.question);
      expect(tokenizer.decode(answer)).toBe(prompt.answer);
    }
  });

  it("belong to the part behind a cut that they span", () => {
    const prompt = needle(options);
    const [words, question] = [prompt.context.length - 3, prompt.text.length];
    const pieces = [
      prompt.context.slice(0, words),
      prompt.text.slice(words, question - 2),
      prompt.text.slice(question - 2) + prompt.answer,
    ];
    const coarse = {
      encode: () => Int32Array.of(0, 1, 2),
      bytesOf: (id: number) => Buffer.from(pieces[id]),
    };
    expect(tokenizeNeedle(coarse, prompt)).toEqual({
      context: Int32Array.of(0),
      question: Int32Array.of(1),
      answer: Int32Array.of(2),
    });
  });

  it("are cut alike where the tokenizer puts a space in front", () => {
    const prompt = needle(options);
    const ids = tokenizeNeedle(tokenizer, prompt);
    const kSpace = tokenizer.size; // a token that is not in the vocabulary
    const spaced = {
      encode: (text: string) => Int32Array.from([kSpace, ...tokenizer.encode(text)]),
      bytesOf: (id: number) => (id === kSpace ? Buffer.from(" ") : tokenizer.bytesOf(id)),
    };
    const cut = tokenizeNeedle(spaced, prompt);
    expect(cut.context).toEqual(Int32Array.from([kSpace, ...ids.context]));
    expect([cut.question, cut.answer]).toEqual([ids.question, ids.answer]);
  });

  it("are refused when a part has none of its own", () => {
    const prompt = needle(options);
    const joined = { encode: () => Int32Array.of(0), bytesOf: () => Buffer.from(prompt.text) };
    expect(() => tokenizeNeedle(joined, prompt)).toThrow(/tokens of its own for \w+, got none/);
  });
});
