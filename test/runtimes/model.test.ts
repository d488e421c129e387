import { describe, expect, it } from "vitest";
import { needle, tokenizeNeedle } from "../../lib/eval/index.ts";
import {
  type AttentionCache,
  LlamaModel,
  loadGgufLlama,
  parseGguf,
} from "../../lib/runtimes/gguf-llama/index.ts";
import { floatTensor, type TensorToWrite, writeGguf } from "./gguf-writer.ts";
import { ReferenceCache } from "./reference-cache.ts";

const { model, tokenizer } = await loadGgufLlama(
  new URL("../model/recall.gguf", import.meta.url).pathname,
);
const { vocabulary } = model.config;
const argmax = (row: Float32Array) => row.indexOf(row.reduce((a, b) => Math.max(a, b)));

describe("the recall model", () => {
  it("has the shape its README states", () => {
    expect(model.config).toMatchObject({
      layers: 6,
      width: 192,
      feedForward: 512,
      queryHeads: 8,
      kvHeads: 2,
      headDim: 64,
      vocabulary: 1280,
      rope: { theta: 10_000, style: "norm", scaling: { kind: "none" } },
    });
  });

  it.each([0.1, 0.5, 0.9])("answers a needle question at depth %f", async (depth) => {
    const prompt = needle({ seed: 100 + depth * 10, sentences: 12, depth });
    const { context, question, answer } = tokenizeNeedle(tokenizer, prompt);
    const cache = new ReferenceCache(model.config);
    await model.forward(context, cache, { logits: "last" });
    const input = Int32Array.from([...question, ...answer.subarray(0, -1)]);
    const logits = await model.forward(input, cache, { logits: "all" });
    const predicted = Array.from(answer, (_, i) => {
      const at = (question.length - 1 + i) * vocabulary;
      return argmax(logits.subarray(at, at + vocabulary));
    });
    expect(tokenizer.decode(predicted)).toBe(prompt.answer);
  });

  it("forgets the answer when the cache drops it", async () => {
    const prompt = needle({ seed: 7, sentences: 12, depth: 0.1 });
    const { context, question, answer } = tokenizeNeedle(tokenizer, prompt);
    const cache = new ReferenceCache(model.config);
    await model.forward(context, cache, { logits: "last" });
    cache.keepRecent(30);
    const logits = await model.forward(question, cache, { logits: "last" });
    expect(argmax(logits)).not.toBe(answer[0]);
  });
});

describe("the forward pass", () => {
  const tokens = tokenizer.encode(needle({ seed: 1, sentences: 3, depth: 0.5 }).text);

  it("is the same in one piece and token by token", async () => {
    const atOnce = await model.forward(tokens, new ReferenceCache(model.config), { logits: "all" });
    const cache = new ReferenceCache(model.config);
    for (let t = 0; t < tokens.length; t++) {
      const row = await model.forward(tokens.subarray(t, t + 1), cache, { logits: "last" });
      // The same sums in the same order, and attention over the same rows: not a bit differs.
      expect(row).toEqual(atOnce.subarray(t * vocabulary, (t + 1) * vocabulary));
    }
  });

  it("is the same across its own chunks", async () => {
    const long = tokenizer.encode(needle({ seed: 2, sentences: 17, depth: 0.5 }).text);
    expect(long.length).toBeGreaterThan(256);
    const cache = new ReferenceCache(model.config);
    const last = await model.forward(long, cache, { logits: "last" });
    const all = await model.forward(long, new ReferenceCache(model.config), { logits: "all" });
    expect(all).toHaveLength(long.length * vocabulary);
    expect(last).toEqual(all.subarray((long.length - 1) * vocabulary));
    expect(cache.layers.map((layer) => layer.slots)).toEqual(Array(6).fill(long.length));
  });

  it("waits for a cache that answers later", async () => {
    const inner = new ReferenceCache(model.config);
    const later: AttentionCache = {
      layers: inner.layers.map((layer) => ({
        append: (k, v, n) => layer.append(k, v, n),
        attend: async (q, out, n) => {
          await new Promise((resolve) => setImmediate(resolve));
          layer.attend(q, out, n);
        },
      })),
    };
    const delayed = await model.forward(tokens, later, { logits: "last" });
    const direct = await model.forward(tokens, new ReferenceCache(model.config), {
      logits: "last",
    });
    expect(delayed).toEqual(direct);
  });

  it("refuses no tokens, unknown tokens and a cache of another depth", async () => {
    const cache = new ReferenceCache(model.config);
    const run = (ids: number[], on: AttentionCache = cache) =>
      model.forward(Int32Array.from(ids), on, { logits: "last" });
    await expect(run([])).rejects.toThrow("at least one token");
    await expect(run([1280])).rejects.toThrow("tokens of 0 to 1279, got 1280");
    await expect(run([-1])).rejects.toThrow("got -1");
    await expect(run([1], { layers: [] })).rejects.toThrow("a cache of 6 layers, got 0");
  });
});

describe("a model file that the runtime cannot run is refused", () => {
  const metadata = {
    "general.architecture": "llama",
    "llama.block_count": 1,
    "llama.embedding_length": 4,
    "llama.feed_forward_length": 4,
    "llama.attention.head_count": 2,
    "llama.attention.head_count_kv": 1,
    "llama.context_length": 16,
    "llama.attention.layer_norm_rms_epsilon": 0.5,
  };
  const square = floatTensor([4, 4], new Float32Array(16).fill(0.1));
  const halfWide = floatTensor([4, 2], new Float32Array(8).fill(0.1));
  const norm = floatTensor([4], [1, 1, 1, 1]);
  const tensors: Record<string, TensorToWrite> = {
    "token_embd.weight": floatTensor(
      [4, 3],
      Float32Array.from({ length: 12 }, (_, i) => i),
    ),
    "output_norm.weight": norm,
    "blk.0.attn_norm.weight": norm,
    "blk.0.ffn_norm.weight": norm,
    "blk.0.attn_q.weight": square,
    "blk.0.attn_k.weight": halfWide,
    "blk.0.attn_v.weight": halfWide,
    "blk.0.attn_output.weight": square,
    "blk.0.ffn_gate.weight": square,
    "blk.0.ffn_up.weight": square,
    "blk.0.ffn_down.weight": square,
  };
  const load = (change: object, more: Record<string, TensorToWrite> = {}) =>
    new LlamaModel(parseGguf(writeGguf({ ...metadata, ...change }, { ...tensors, ...more })));

  it("unless it fits", async () => {
    const tiny = load({ "llama.expert_count": 0, "llama.attention.causal": true });
    expect(tiny.config).toMatchObject({ headDim: 2, vocabulary: 3, rope: { theta: 10_000 } });
    const cache = new ReferenceCache(tiny.config);
    expect(await tiny.forward(Int32Array.of(1, 2), cache, { logits: "all" })).toHaveLength(6);
  });

  it.each([
    [{ "general.architecture": "gemma" }, /one of llama, qwen2, qwen3, got "gemma"/],
    [{ "llama.block_count": 0 }, /positive number for llama.block_count, got 0/],
    [{ "llama.attention.head_count_kv": 3 }, /multiple of 3 key-value heads, got 2/],
    [{ "llama.rope.dimension_count": 1 }, /one even size, got 2, 2, 1/],
    [{ "llama.rope.scaling.type": "longrope" }, /"none", "linear" or "yarn".*got "longrope"/],
    [{ "llama.rope.scaling.factor": 0.5 }, /1 or more for llama.rope.scaling.factor, got 0.5/],
    [{ "llama.rope.scaling.attn_factor": 2 }, /1 for llama.rope.scaling.attn_factor .*got 2/],
    [{ "llama.rope.scaling.alpha": 2 }, /no llama.rope.scaling.alpha, which this runtime/],
    [{ "llama.expert_count": 8 }, /no llama.expert_count, which this runtime .*got 8/],
    [{ "llama.attention.sliding_window": 8 }, /no llama.attention.sliding_window.*got 8/],
    [{ "llama.attention.causal": false }, /no llama.attention.causal.*got false/],
    [{ "llama.embedding_length": 8 }, /token_embd.weight with rows of 8/],
    [{ "llama.feed_forward_length": 8 }, /32 elements for blk.0.ffn_gate.weight, got 16/],
    [{ "llama.block_count": 2 }, /no tensor "blk.1.attn_norm.weight"/],
  ])("by its metadata: %j", (change, message) => {
    expect(() => load(change)).toThrow(message);
  });

  it("by tensors nobody would read", () => {
    expect(() => load({}, { "blk.0.attn_norm.bias": norm })).toThrow(
      /plain llama model, got the tensors blk.0.attn_norm.bias/,
    );
    expect(() => load({}, { "blk.0.attn_q_norm.weight": norm })).toThrow(
      /plain llama model, got the tensors blk.0.attn_q_norm.weight/,
    );
  });

  it("by the type of a weight, before one is read", () => {
    const packed = { shape: [32, 2], type: 12, bytes: new Uint8Array(144) };
    expect(() => load({}, { "blk.0.ffn_down.weight": packed })).toThrow(
      /weights of f32, f16, q8_0, bf16, got ggml type 12 for blk.0.ffn_down.weight/,
    );
  });

  it("by its size, before a weight is read", () => {
    const file = parseGguf(writeGguf(metadata, tensors));
    const info = { name: "blk.0.ffn_up.weight", shape: [4, 2 ** 28], type: "f16", byteOffset: 0 };
    const readTensor = () => {
      throw new Error("read");
    };
    const huge = { ...file, tensors: new Map([...file.tensors, [info.name, info]]), readTensor };
    expect(() => new LlamaModel(huge)).toThrow(/matrices of at most 4160749568 bytes .*got 429496/);
  });

  it("by divisors of its frequencies that do not fit", () => {
    const factors = (count: number) => ({
      "rope_freqs.weight": floatTensor([count], Array(count).fill(2)),
    });
    expect(load({}, factors(1)).config.rope.scaling).toEqual({ kind: "factors", factors: [2] });
    expect(() => load({}, factors(2))).toThrow(/1 elements for rope_freqs.weight, got 2/);
    const yarn = { "llama.rope.scaling.type": "yarn", "llama.rope.scaling.factor": 2 };
    expect(() => load(yarn, factors(1))).toThrow(/no scaling or a linear one .*got "yarn"/);
  });
});
