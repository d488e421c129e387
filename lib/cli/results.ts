/** What a compressed cache comes to, as tensors of the output file. */
import type { KVCache } from "../cache/kv-cache.js";
import { readStoredSlots, type StoredSlots } from "../cache/stored-slots.js";
import type { OutputTensor } from "./safetensors-writer.js";

/** The scores that ranked a layer's slots, [rows, tokens]. */
export interface LayerRanking {
  readonly rows: number;
  readonly scores: Float32Array;
}

/** A layer's tensors, and whether its keys are stored before or after RoPE. */
export interface LayerResult {
  readonly tensors: readonly OutputTensor[];
  readonly keyRope: "pre" | "post";
}

/**
 * Scores where the method has none from attention: by position, the newer the better; all equal (0) where nothing is
 * ranked.
 */
export function scoresWithoutAttention(cache: KVCache, tokens: number): LayerRanking {
  const { kvHeads } = cache.options;
  const isRanked = cache.method.score?.source === "position";
  const scores = Float32Array.from({ length: kvHeads * tokens }, (_, i) =>
    isRanked ? i % tokens : 0,
  );
  return { rows: kvHeads, scores };
}

/**
 * Reads one layer back.
 *
 * @param attention output for the last query, [queryHeads, headDim]
 */
export async function readLayerResult(
  cache: KVCache,
  layer: number,
  ranking: LayerRanking,
  attention: Float32Array,
): Promise<LayerResult> {
  const { kvHeads, queryHeads, headDim } = cache.options;
  const heads: StoredSlots[] = [];
  for (let head = 0; head < kvHeads; head++) heads.push(await readStoredSlots(cache, layer, head));
  const longest = Math.max(...heads.map(({ slots }) => slots));
  const kept = new Int32Array(kvHeads * longest).fill(-1);
  const masks = new Int32Array(kvHeads * longest);
  const keys = new Float32Array(kvHeads * longest * headDim);
  const values = new Float32Array(keys.length);
  const groupBits = 2 ** (queryHeads / kvHeads) - 1;
  for (const [head, stored] of heads.entries()) {
    const row = head * longest;
    kept.set(stored.positions, row);
    masks.set(
      stored.masks.map((mask) => mask & groupBits),
      row,
    );
    keys.set(stored.keys, row * headDim);
    values.set(stored.values, row * headDim);
  }
  const prefix = `layers.${layer}`;
  const budget = Int32Array.from(heads, ({ slots }) => slots);
  const bytes = BigInt64Array.of(BigInt(cache.stats().perLayer[layer].bytes));
  const shape = [kvHeads, longest];
  const { rows, scores } = ranking;
  const tensors: OutputTensor[] = [
    { name: `${prefix}.kept`, dtype: "I32", shape, data: kept },
    { name: `${prefix}.scores`, dtype: "F32", shape: [rows, scores.length / rows], data: scores },
    { name: `${prefix}.budget`, dtype: "I32", shape: [kvHeads], data: budget },
    { name: `${prefix}.key_reconstructed`, dtype: "F32", shape: [...shape, headDim], data: keys },
    {
      name: `${prefix}.value_reconstructed`,
      dtype: "F32",
      shape: [...shape, headDim],
      data: values,
    },
    {
      name: `${prefix}.attention_output`,
      dtype: "F32",
      shape: [queryHeads, headDim],
      data: attention,
    },
    { name: `${prefix}.bytes`, dtype: "I64", shape: [1], data: bytes },
  ];
  if (cache.method.select?.visibility === "head") {
    tensors.push({ name: `${prefix}.masks`, dtype: "I32", shape, data: masks });
  }
  const isRotated = heads.some((stored) => stored.isRotated.includes(1));
  const hasRope = cache.options.rope !== undefined;
  // Without rope the cache never turns keys: they came after RoPE, and are stored so.
  return { tensors, keyRope: hasRope && !isRotated ? "pre" : "post" };
}
