import { readFile } from "node:fs/promises";
import { describe, expect, it } from "vitest";
import { readGguf, Tokenizer, tokenizerFromGguf } from "../../lib/runtimes/gguf-llama/index.ts";

const tokenizer = tokenizerFromGguf(
  await readGguf(new URL("../model/recall.gguf", import.meta.url).pathname),
);
const withoutBos = (text: string) => Array.from(tokenizer.encode(text).subarray(1));

/** All 256 bytes as single tokens in byte order, then `more`. */
function bytesAnd(...more: string[]): string[] {
  let next = 256;
  const alphabet = Array.from({ length: 256 }, (_, byte) => {
    const isVisible = (byte > 32 && byte < 127) || (byte > 160 && byte !== 173);
    return String.fromCodePoint(isVisible ? byte : next++);
  });
  return [...alphabet, ...more];
}

describe("byte-pair encoding", () => {
  // Merges in order: "l o", "lo w", "e r", "w e"; worked by hand.
  const small = new Tokenizer({
    tokens: bytesAnd("lo", "low", "er", "we", "Ġlow"),
    merges: ["l o", "lo w", "e r", "w e", "Ġ low"],
    silent: new Set(),
    bos: null,
  });
  const [lo, low, er, we, spaceLow] = [256, 257, 258, 259, 260];
  const byte = (letter: string) => letter.charCodeAt(0);

  it("joins the pair of lowest rank first", () => {
    expect(Array.from(small.encode("low"))).toEqual([low]);
    // w,e,r: "e r" (rank 2) goes before "w e" (rank 3), so "we" never forms.
    expect(Array.from(small.encode("lower"))).toEqual([low, er]);
    expect(Array.from(small.encode("wed"))).toEqual([we, byte("d")]);
    expect(Array.from(small.encode("lol"))).toEqual([lo, byte("l")]);
  });

  it("keeps a space with the word behind it and never joins over a cut", () => {
    expect(Array.from(small.encode("low low"))).toEqual([low, spaceLow]);
    expect(Array.from(small.encode("lo,w"))).toEqual([lo, byte(","), byte("w")]);
    expect(Array.from(small.encode("12"))).toEqual([byte("1"), byte("2")]);
  });

  it("cuts as the qwen2 rule does", () => {
    // Contractions, single digits, punctuation runs, the last space of a run to the next word.
    const pieces = (text: string) => Array.from(small.encode(text), (id) => small.decode([id]));
    expect(pieces("a's  b\n\n c")).toEqual(["a", "'", "s", " ", " ", "b", "\n", "\n", " ", "c"]);
  });

  it("refuses a vocabulary with holes", () => {
    const tokens = bytesAnd().slice(0, 200);
    const rest = { merges: [], silent: new Set<number>(), bos: null };
    expect(() => new Tokenizer({ tokens, ...rest })).toThrow(/each of the 256 bytes/);
    expect(() => new Tokenizer({ ...rest, tokens: bytesAnd(), merges: ["a b"] })).toThrow(
      /token for the merge "a b"/,
    );
  });
});

describe("the recall model's tokenizer", () => {
  it("puts <s> in front", () => {
    expect(tokenizer.bos).toBe(0);
    expect(Array.from(tokenizer.encode(""))).toEqual([0]);
  });

  it("agrees with tokenizer.json on a sentence worked out by hand", async () => {
    const json = JSON.parse(
      await readFile(new URL("../model/tokenizer.json", import.meta.url), "utf8"),
    );
    const id = (token: string): number => json.model.vocab[token];
    const tokens = ["The", "Ġpassword", "Ġof", "ĠNora", "Ġis", "Ġamber", "."];
    expect(tokens.map(id)).not.toContain(undefined);
    expect(withoutBos("The password of Nora is amber.")).toEqual(tokens.map(id));
  });

  it.each([
    "Question: the favourite word of Walter is",
    "  two spaces, a tab\tand\r\n\r\nlines  ",
    "naïve café – 12 345 — ÆØÅ ß",
    "数字 и буквы, emoji 🧶🪡, \u0000 control \u007f",
    "it's we've I'LL they'd",
    "<s> is plain text here",
  ])("round-trips %j", (text) => {
    expect(tokenizer.decode(tokenizer.encode(text))).toBe(text);
    const bytes = Buffer.concat(withoutBos(text).map((id) => tokenizer.bytesOf(id)));
    expect(bytes.toString()).toBe(text);
  });

  it("gives U+FFFD for half a character and an error for an id it has not", () => {
    const ids = withoutBos("🧶");
    expect(ids.length).toBeGreaterThan(1);
    expect(tokenizer.decode(ids.slice(0, 1))).toBe("\ufffd");
    expect(() => tokenizer.decode([1280])).toThrow(/token id of 0 to 1279, got 1280/);
  });

  it("is refused when it is of another kind", async () => {
    const metadata = new Map([["tokenizer.ggml.model", "llama"]]);
    const file = { version: 3, metadata, tensors: new Map(), readTensor: () => new Float32Array() };
    expect(() => tokenizerFromGguf(file)).toThrow(/"gpt2" with pre-tokenizer "qwen2", got "llama"/);
  });
});
