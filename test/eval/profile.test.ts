// profileHeads(): what the formula gives, on a model that is made up and on the recall model's committed profile.
import { readFileSync } from "node:fs";
import { expect, it } from "vitest";
import { baklava, KVCache, openDevice } from "../../lib/index.ts";
import { needle, profileHeads, type ProfileHeadsOptions } from "../../lib/eval/index.ts";
import { loadGgufLlama } from "../../lib/runtimes/gguf-llama/index.ts";
import { Prng } from "../harness/prng.ts";

const config = { layers: 2, queryHeads: 4, kvHeads: 2, headDim: 8 };

/** A model that appends and attends rows of its own, in two chunks of one buffer. */
function madeUp(seed: number) {
  const random = new Prng(seed);
  const seen: { v: Float32Array; out: Float32Array; tokens: number; layer: number }[] = [];
  const { queryHeads, kvHeads, headDim } = config;
  const fill = (rows: Float32Array) => rows.map(() => random.normal());
  const model: ProfileHeadsOptions["model"] = {
    config,
    forward: async (ids, cache) => {
      const half = Math.ceil(ids.length / 2);
      const v = new Float32Array(kvHeads * half * headDim);
      const q = new Float32Array(queryHeads * half * headDim);
      for (const tokens of [half, ids.length - half]) {
        for (const each of cache.layers) {
          v.set(fill(v));
          const rows = v.subarray(0, kvHeads * tokens * headDim);
          each.append(rows, rows, tokens);
          v.fill(7); // the runtime's buffers are used again
          const out = q.subarray(0, queryHeads * tokens * headDim);
          await each.attend(out, out, tokens);
        }
      }
      return new Float32Array(1);
    },
  };
  const openCache = () => ({
    layers: Array.from({ length: config.layers }, (_, layer) => {
      let v = new Float32Array(0);
      return {
        append: (_k: Float32Array, rows: Float32Array) => {
          v = rows.slice();
        },
        attend: (_q: Float32Array, out: Float32Array, tokens: number) => {
          out.set(fill(out));
          seen.push({ v, out: out.slice(), tokens, layer });
        },
      };
    }),
  });
  return { model, openCache, seen };
}

it("is the mean over heads of a group and tokens of one minus the cosine of value and output", async () => {
  const { model, openCache, seen } = madeUp(3);
  const prompts = [new Int32Array(7), new Int32Array(4)];
  const profile = await profileHeads({
    name: "made up",
    model,
    prompts,
    openCache,
    tau: 2,
    least: 0,
  });
  expect(profile).toMatchObject({ model: "made up", tau: 2, least: 0 });
  for (let layer = 0; layer < 2; layer++) {
    for (let kvHead = 0; kvHead < 2; kvHead++) {
      const changes: number[] = [];
      for (const { v, out, tokens } of seen.filter((each) => each.layer === layer)) {
        for (const head of [2 * kvHead, 2 * kvHead + 1]) {
          for (let t = 0; t < tokens; t++) {
            const a = v.subarray((kvHead * tokens + t) * 8, (kvHead * tokens + t + 1) * 8);
            const b = out.subarray((head * tokens + t) * 8, (head * tokens + t + 1) * 8);
            const dot = a.reduce((sum, x, i) => sum + x * b[i], 0);
            changes.push(1 - dot / (Math.hypot(...a) * Math.hypot(...b)));
          }
        }
      }
      expect(changes).toHaveLength(2 * 11);
      const mean = changes.reduce((a, b) => a + b, 0) / changes.length;
      expect(profile.importance[layer][kvHead]).toBeCloseTo(mean, 10);
    }
  }
});

it("asks for tokens, and disposes every cache it opened", async () => {
  const { model, openCache } = madeUp(4);
  await expect(profileHeads({ name: "none", model, prompts: [], openCache })).rejects.toThrow(
    /at least one token/,
  );
  let open = 0;
  const counted = () => {
    open += 1;
    const close = () => {
      open -= 1;
    };
    return { ...openCache(), [Symbol.dispose]: close };
  };
  const failing = { ...model, forward: () => Promise.reject(new Error("no more")) };
  const prompts = [new Int32Array(3)];
  await expect(
    profileHeads({ name: "x", model: failing, prompts, openCache: counted }),
  ).rejects.toThrow("no more");
  await profileHeads({ name: "x", model, prompts, openCache: counted });
  expect(open).toBe(0);
});

it("the recall model's profile is that of its prompts, and compresses it", async () => {
  const folder = new URL("../model/", import.meta.url);
  const committed = JSON.parse(readFileSync(new URL("recall-profile.json", folder), "utf8"));
  const path = new URL("recall.gguf", folder).pathname;
  const { model, tokenizer, config: shape } = await loadGgufLlama(path);
  const device = await openDevice("cpu");
  const { layers, queryHeads, kvHeads, headDim, rope } = shape;
  const cacheOptions = { layers, queryHeads, kvHeads, headDim, rope };
  // One of the prompts that it was made from: near it, not equal to it.
  const text = needle({ seed: 900_001, sentences: 12, depth: 0.5 }).text;
  const ids = tokenizer.encode(text);
  const own = await profileHeads({
    name: "recall.gguf",
    model,
    prompts: [ids],
    openCache: () => new KVCache(device, cacheOptions),
  });
  expect(committed).toMatchObject({ model: "recall.gguf", tau: 1, least: 0.2 });
  expect(committed.importance.flat()).toHaveLength(layers * kvHeads);
  committed.importance.flat().forEach((value: number, i: number) => {
    expect(Math.abs(value - own.importance.flat()[i]), `head ${i}`).toBeLessThan(0.15);
  });
  using cache = new KVCache(device, {
    ...cacheOptions,
    method: baklava({ keep: 0.4, profile: committed }),
  });
  await model.forward(ids, cache, { logits: "last" });
  const report = await cache.compress();
  const heads = cache.layers.flatMap((layer) => layer.slots);
  expect(report.bytes).toBeLessThanOrEqual(report.targetBytes ?? 0);
  expect(new Set(heads).size).toBeGreaterThan(4);
});
