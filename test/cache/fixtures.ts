// Caches with seeded contents: what a runtime would append and ask, layer by layer.
import { createHash } from "node:crypto";
import { KVCache, type KVCacheOptions } from "../../lib/index.ts";
import type { Device } from "../harness/api.ts";
import { Prng } from "../harness/prng.ts";
import { type FloatDType, roundTo } from "../oracle/float-formats.ts";

/** Rows of one layer: k, v [kvHeads, tokens, D], q [queryHeads, tokens, D], values that dtype holds. */
export interface LayerRows {
  readonly k: Float32Array;
  readonly v: Float32Array;
  readonly q: Float32Array;
}

export interface Prompt {
  readonly tokens: number;
  readonly shape: Shape;
  readonly layers: readonly LayerRows[];
}

/** The options of a cache that its contents follow from. */
export type Shape = Pick<KVCacheOptions, "layers" | "queryHeads" | "kvHeads" | "headDim"> & {
  readonly dtype?: FloatDType;
};

export interface PromptOptions {
  readonly seed?: number;
  /**
   * Directions that the rows of a layer share, from the first layer to the last: rows are one of them times a
   * length, plus noise. 0: rows of their own.
   */
  readonly clusters?: readonly number[];
  /** Length of the noise beside a direction of length 1. */
  readonly noise?: number;
}

function fillRows(
  random: Prng,
  rows: Float32Array,
  headDim: number,
  clusters: number,
  noise: number,
  dtype: FloatDType,
): void {
  const directions = new Float32Array(clusters * headDim);
  for (let i = 0; i < directions.length; i++) directions[i] = random.normal() / Math.sqrt(headDim);
  for (let start = 0; start < rows.length; start += headDim) {
    const length = 0.5 + 2 * random.uniform();
    const from = clusters === 0 ? -1 : random.integer(0, clusters - 1) * headDim;
    for (let d = 0; d < headDim; d++) {
      const own = random.normal() / Math.sqrt(headDim);
      const value = from < 0 ? 1.4 * own : directions[from + d] + noise * own;
      rows[start + d] = roundTo(dtype, value * length);
    }
  }
}

export function makePrompt(shape: Shape, tokens: number, options: PromptOptions = {}): Prompt {
  const { seed = 1, clusters = [], noise = 0.05 } = options;
  const { headDim, kvHeads, queryHeads, dtype = "f16" } = shape;
  const layers = Array.from({ length: shape.layers }, (_, layer) => {
    const random = new Prng(seed * 1000 + layer);
    const k = new Float32Array(kvHeads * tokens * headDim);
    const v = new Float32Array(k.length);
    const q = new Float32Array(queryHeads * tokens * headDim);
    // A head's own directions: rows of a head follow each other.
    const perHead = tokens * headDim;
    for (let h = 0; h < kvHeads; h++) {
      for (const rows of [k, v]) {
        const head = rows.subarray(h * perHead, (h + 1) * perHead);
        fillRows(random, head, headDim, clusters[layer] ?? 0, noise, dtype);
      }
    }
    for (let i = 0; i < q.length; i++) q[i] = roundTo(dtype, 2 * random.normal());
    return { k, v, q };
  });
  return { tokens, shape, layers };
}

/** Tokens [from, to) of rows [heads, tokens, D]. */
export function sliceTokens(
  rows: Float32Array,
  heads: number,
  headDim: number,
  from: number,
  to: number,
): Float32Array {
  const perHead = rows.length / heads;
  const size = (to - from) * headDim;
  const result = new Float32Array(heads * size);
  for (let h = 0; h < heads; h++) {
    const start = h * perHead + from * headDim;
    result.set(rows.subarray(start, start + size), h * size);
  }
  return result;
}

export interface FeedOptions {
  readonly from?: number;
  readonly to?: number;
  /** Tokens a call; default: all at once. */
  readonly chunk?: number;
  /** Last tokens whose queries attend; default: none. */
  readonly attended?: number;
}

/** Appends tokens [from, to) of a prompt to every layer; the last ones also attend. */
export async function feed(
  cache: KVCache,
  prompt: Prompt,
  options: FeedOptions = {},
): Promise<void> {
  const { from = 0, to = prompt.tokens, attended = 0 } = options;
  const { headDim, kvHeads } = prompt.shape;
  const chunk = options.chunk ?? Math.max(1, to - from);
  for (let first = from; first < to; first += chunk) {
    const end = Math.min(to, first + chunk);
    for (const layer of cache.layers) {
      const { k, v } = prompt.layers[layer.index];
      const rows = (all: Float32Array) => sliceTokens(all, kvHeads, headDim, first, end);
      layer.append(rows(k), rows(v), end - first);
    }
  }
  if (attended > 0) await ask(cache, prompt, Math.max(from, to - attended), to);
}

/** Attends with the queries of tokens [from, to), the last appended ones; outputs per layer. */
export async function ask(
  cache: KVCache,
  prompt: Prompt,
  from: number,
  to: number,
): Promise<Float32Array[]> {
  const { headDim, queryHeads } = prompt.shape;
  const outputs: Float32Array[] = [];
  for (const layer of cache.layers) {
    const q = sliceTokens(prompt.layers[layer.index].q, queryHeads, headDim, from, to);
    const out = new Float32Array(q.length);
    await layer.attend(q, out, to - from);
    outputs.push(out);
  }
  return outputs;
}

/** A cache with a whole prompt in it, the last `attended` tokens' queries asked. */
export async function filledCache(
  device: Device,
  prompt: Prompt,
  options: Partial<KVCacheOptions> = {},
  attended = 0,
): Promise<KVCache> {
  const cache = new KVCache(device, { ...prompt.shape, ...options });
  try {
    await feed(cache, prompt, { attended });
    return cache;
  } catch (error) {
    cache.dispose();
    throw error;
  }
}

/** Everything a cache stores, as a digest: equal ones mean bit-identical caches. */
export async function contentsOf(cache: KVCache): Promise<string> {
  return createHash("sha256")
    .update(await cache.snapshot())
    .digest("hex");
}

export async function codeOf(work: Promise<unknown>): Promise<string> {
  try {
    await work;
    return "resolved";
  } catch (error) {
    return (error as { code?: string }).code ?? String(error);
  }
}
