import { describe, expect, it } from "vitest";
import {
  fitSentences,
  generatedTexts,
  heldOutDocument,
  longText,
  ownTexts,
} from "../../lib/eval/held-out.ts";
import { placesOf, promptAt } from "../../lib/eval/prompts.ts";
import { readGguf, tokenizerFromGguf } from "../../lib/runtimes/gguf-llama/index.ts";

const tokenizer = tokenizerFromGguf(
  await readGguf(new URL("../model/recall.gguf", import.meta.url).pathname),
);
const factForm = /The [a-z ]+ of (\w+) is (\w+)\./g;
const questionForm = /Question: the [a-z ]+ of (\w+) is (\w+)\./g;

describe("a held-out document", () => {
  const options = { seed: 3, sentences: 30, sentencesBehind: 20, facts: 6, questions: 9 };

  it("is a pure function of its options", () => {
    expect(heldOutDocument(options)).toEqual(heldOutDocument(options));
    expect(heldOutDocument({ ...options, seed: 4 })).not.toEqual(heldOutDocument(options));
  });

  it("states its facts in the first part and asks for them in the second, rightly", () => {
    const { first, second } = heldOutDocument(options);
    const facts = new Map([...first.matchAll(factForm)].map(([, name, value]) => [name, value]));
    expect(facts.size).toBe(6);
    const asked = [...second.matchAll(questionForm)];
    expect(asked).toHaveLength(9);
    for (const [, name, value] of asked) expect(value).toBe(facts.get(name));
    expect(first).not.toMatch(questionForm);
  });

  it.each([0, 65, 1.5])("refuses %d facts", (facts) => {
    expect(() => heldOutDocument({ ...options, facts })).toThrow(/expected 1 to 64 for facts/);
  });
});

describe("generated texts", () => {
  const lengths = { promptTokens: 400, restTokens: 120 };
  const texts = generatedTexts(tokenizer, [1, 2], lengths);

  it("have the lengths asked for, a prompt up to a sentence less, and differ by seed", () => {
    for (const { prompt, rest } of texts) {
      expect(rest).toHaveLength(120);
      expect(prompt.length).toBeLessThanOrEqual(400);
      expect(prompt.length).toBeGreaterThan(370);
      expect(prompt[0]).toBe(tokenizer.bos);
    }
    expect(texts[0].rest).not.toEqual(texts[1].rest);
  });

  it("have the facts in the prompt and questions behind it", () => {
    for (const { prompt, rest } of texts) {
      expect([...tokenizer.decode(prompt).matchAll(factForm)].length).toBeGreaterThanOrEqual(4);
      expect([...tokenizer.decode(rest).matchAll(questionForm)].length).toBeGreaterThanOrEqual(1);
      expect(tokenizer.decode(prompt)).not.toMatch(questionForm);
    }
  });
});

describe("a long text", () => {
  it("has its length, and each question within 600 tokens of its fact", () => {
    const ids = longText(tokenizer, 9, 2500);
    expect(ids).toHaveLength(2500);
    expect(ids).toEqual(longText(tokenizer, 9, 2500));
    expect(ids).not.toEqual(longText(tokenizer, 10, 2500));
    const text = tokenizer.decode(ids);
    const asked = [...text.matchAll(questionForm)];
    expect(asked.length).toBeGreaterThan(15);
    for (const { 0: question, 1: name, 2: value, index } of asked) {
      const fact = text.slice(0, index).lastIndexOf(` of ${name} is ${value}.`);
      expect(fact, question).toBeGreaterThan(-1);
      expect(tokenizer.encode(text.slice(fact, index)).length).toBeLessThan(600);
    }
  });
});

describe("the user's text", () => {
  const text = "The lamp was lit. ".repeat(200);
  const ids = tokenizer.encode(text);
  const lengths = { promptTokens: 50, restTokens: 20 };

  it("is cut into windows that lie evenly and do not overlap", () => {
    const texts = ownTexts(tokenizer, text, 3, lengths, "lamp.txt");
    expect(texts).toHaveLength(3);
    const space = Math.floor(ids.length / 3);
    texts.forEach(({ prompt, rest }, i) => {
      expect(prompt).toEqual(ids.slice(i * space, i * space + 50));
      expect(rest).toEqual(ids.slice(i * space + 50, i * space + 70));
    });
  });

  it("gives as many windows as fit, and fails when none does", () => {
    expect(ownTexts(tokenizer, text, 1000, lengths, "lamp.txt")).toHaveLength(
      Math.floor(ids.length / 70),
    );
    expect(() => ownTexts(tokenizer, "short", 1, lengths, "lamp.txt")).toThrow(
      /expected at least 70 tokens for text, got \d in lamp.txt/,
    );
  });
});

describe("the prompts of a plan", () => {
  const plan = { lengths: [120, 300], depths: [0, 0.5, 1], seeds: [1, 2], prompts: 2 };
  const places = placesOf(plan);

  it("cover every length, depth and seed with texts of their own", () => {
    expect(places).toHaveLength(2 * 3 * 2 * 2);
    expect(new Set(places.map(({ seed }) => seed)).size).toBe(places.length);
    expect(places.filter(({ length, depth }) => length === 300 && depth === 0.5)).toHaveLength(4);
  });

  it("are as long as fits", () => {
    for (const place of places) {
      const { context } = promptAt(tokenizer, place);
      expect(context.length).toBeLessThanOrEqual(place.length);
      expect(context.length).toBeGreaterThan(place.length - 40);
    }
  });

  it.each([1, 5, 17])("fit sentences exactly: %d a sentence", (tokens) => {
    const fits = fitSentences(100, (sentences) => sentences * Math.max(5, tokens));
    expect(fits).toBe(Math.floor(100 / Math.max(5, tokens)));
  });
});
