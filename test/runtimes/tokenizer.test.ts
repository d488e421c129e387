import { readFile } from "node:fs/promises";
import { describe, expect, it } from "vitest";
import {
  parseGguf,
  readGguf,
  type Tokenizer,
  tokenizerFromGguf,
} from "../../lib/runtimes/gguf-llama/index.ts";
import { type Value, writeGguf } from "./gguf-writer.ts";
import { byteAlphabet } from "./small-vocabularies.ts";

const tokenizer = tokenizerFromGguf(
  await readGguf(new URL("../model/recall.gguf", import.meta.url).pathname),
);
const withoutBos = (text: string) => Array.from(tokenizer.encode(text).subarray(1));

/** A tokenizer of byte pairs: all 256 bytes as single tokens in byte order, then `more`. */
function bytePairs(
  more: string[],
  merges: string[],
  change: Record<string, Value> = {},
): Tokenizer {
  return tokenizerOf({
    model: "gpt2",
    pre: "qwen2",
    tokens: [...byteAlphabet, ...more],
    merges,
    ...change,
  });
}

function tokenizerOf(metadata: Record<string, Value>): Tokenizer {
  const named = Object.entries(metadata).map(([key, value]) => [`tokenizer.ggml.${key}`, value]);
  return tokenizerFromGguf(parseGguf(writeGguf(Object.fromEntries(named), {})));
}

describe("byte-pair encoding", () => {
  // Merges in order: "l o", "lo w", "e r", "w e"; worked by hand.
  const merges = ["l o", "lo w", "e r", "w e", "Ġ low"];
  const small = bytePairs(["lo", "low", "er", "we", "Ġlow"], merges);
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

  it("cuts digits by three, and takes whole pieces, as the llama-bpe rule does", () => {
    const three = ["12", "123", "1234", "Ġnew"];
    const digits = ["1 2", "12 3", "123 4"];
    const frame = { bos_token_id: 9 };
    const llama = bytePairs(three, digits, { pre: "llama-bpe", ...frame });
    // "Ġnew" has no merges that lead to it; bos comes by default with this rule.
    expect(Array.from(llama.encode("12345 new"))).toEqual([9, 257, byte("4"), byte("5"), 259]);
    const gpt2 = bytePairs(three, digits, { pre: "gpt-2" });
    expect(Array.from(gpt2.encode("12345"))).toEqual([258, byte("5")]);
    expect(gpt2.encode(" new")).toHaveLength(4);
    const smollm = bytePairs(three, digits, { pre: "smollm" });
    expect(Array.from(smollm.encode("12 3"))).toEqual([byte("1"), byte("2"), 32, byte("3")]);
  });

  it("keeps user-defined tokens whole, the longest first, and control tokens as text", () => {
    const types = [...Array(256).fill(1), 4, 4, 3];
    const tokenizer = bytePairs(["<a>", "<a> b", "<c>"], [], { token_type: { i32: types } });
    expect(Array.from(tokenizer.encode("x<a><a> b<c>"))).toEqual([
      byte("x"),
      256,
      257,
      ...Array.from("<c>", byte),
    ]);
    expect(tokenizer.decode([256, 257, 258, byte("x")])).toBe("<a><a> bx");
  });

  it("puts tokens in front and behind as the flags say", () => {
    const frame = { bos_token_id: 7, eos_token_id: 8 };
    const both = { ...frame, add_bos_token: true, add_eos_token: true };
    expect(Array.from(bytePairs([], [], both).encode("a"))).toEqual([7, byte("a"), 8]);
    expect(Array.from(bytePairs([], [], frame).encode("a"))).toEqual([byte("a")]);
    const none = { ...frame, pre: "llama-bpe", add_bos_token: false };
    expect(Array.from(bytePairs([], [], none).encode("a"))).toEqual([byte("a")]);
    expect(() => bytePairs([], [], { add_bos_token: true, bos_token_id: 256 })).toThrow(
      /bos_token_id below 256, got 256/,
    );
    expect(() => bytePairs([], [], { add_eos_token: true })).toThrow(
      /eos_token_id below 256, got undefined/,
    );
  });

  it("refuses a vocabulary with holes", () => {
    const tokens = byteAlphabet.slice(0, 200);
    expect(() => bytePairs([], [], { tokens })).toThrow(/each of the 256 bytes/);
    expect(() => bytePairs([], ["a b"])).toThrow(/token for the merge "a b"/);
  });
});

describe("sentence pieces", () => {
  const bytes = Array.from(
    { length: 256 },
    (_, value) => `<0x${value.toString(16).toUpperCase().padStart(2, "0")}>`,
  );
  const letters = ["▁", "a", "b", "c"];
  // Scores by hand: "bc" beats "ab", "ab" and "ca" are equal.
  const pieces = ["ab", "bc", "abc", "ca", "▁a"];
  const scores = [0, 0, 0, ...bytes.map(() => 0), 0, 0, 0, 0, -2, -1, -3, -2, -4];
  const metadata: Record<string, Value> = {
    model: "llama",
    tokens: ["<unk>", "<s>", "</s>", ...bytes, ...letters, ...pieces],
    token_type: { i32: [2, 3, 3, ...bytes.map(() => 6), ...Array(9).fill(1)] },
    scores: { f32: scores },
  };
  const id = (token: string) => (metadata.tokens as string[]).indexOf(token);
  const small = tokenizerOf(metadata);
  const spelt = (tokenizer: Tokenizer, text: string) =>
    Array.from(tokenizer.encode(text), (token) => (metadata.tokens as string[])[token]);

  it("joins the pair of the highest score first, the leftmost of equals", () => {
    expect(spelt(small, "abc")).toEqual(["<s>", "▁", "abc"]); // b c (-1), then a bc (-3)
    expect(spelt(small, "abca")).toEqual(["<s>", "▁", "abc", "a"]); // not "ca": c is taken
    expect(spelt(small, "cab")).toEqual(["<s>", "▁", "ca", "b"]);
    expect(spelt(small, "a b")).toEqual(["<s>", "▁a", "▁", "b"]);
  });

  it("spells what is no piece in bytes", () => {
    expect(spelt(small, "é\n")).toEqual(["<s>", "▁", "<0xC3>", "<0xA9>", "<0x0A>"]);
    expect(small.decode([id("<0xC3>"), id("<0xA9>")])).toBe("é");
  });

  it("takes back the space in front of a whole text, and of nothing else", () => {
    expect(small.decode(small.encode("a b"))).toBe("a b");
    expect(small.decode(small.encode(" a"))).toBe(" a");
    expect(small.decode([id("▁a")])).toBe(" a");
    expect(small.decode(small.encode(""))).toBe("");
    expect(Array.from(small.encode(""))).toEqual([1]);
  });

  it("follows the flags for the space, the beginning and the end", () => {
    const bare = tokenizerOf({ ...metadata, add_bos_token: false, add_space_prefix: false });
    expect(spelt(bare, "abc")).toEqual(["abc"]);
    const ended = tokenizerOf({ ...metadata, add_eos_token: true });
    expect(spelt(ended, "abc")).toEqual(["<s>", "▁", "abc", "</s>"]);
  });

  it("are refused without scores, without bytes, or with a rule of another model", () => {
    expect(() => tokenizerOf({ ...metadata, scores: { f32: [1] } })).toThrow(/268 numbers/);
    expect(() => tokenizerOf({ ...metadata, token_type: { i32: [6] } })).toThrow(
      /byte tokens like <0x0A>, got "<unk>"/,
    );
    const fewer = { i32: [2, 3, 3, 1, ...Array(255).fill(6), ...Array(9).fill(1)] };
    expect(() => tokenizerOf({ ...metadata, token_type: fewer })).toThrow(/256 bytes, got 255/);
    expect(() => tokenizerOf({ ...metadata, remove_extra_whitespaces: true })).toThrow(
      /remove_extra_whitespaces to be false/,
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

  it("is refused when it is of another kind", () => {
    expect(() => tokenizerOf({ model: "bert" })).toThrow(/"gpt2" or "llama", got "bert"/);
    expect(() => bytePairs([], [], { pre: "tekken" })).toThrow(
      /one of gpt-2, llama-bpe, llama3, llama-v3, qwen2, smollm, got "tekken"/,
    );
    expect(() => bytePairs([], [], { add_space_prefix: true })).toThrow(/no add_space_prefix/);
  });
});
