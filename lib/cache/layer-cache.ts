import { Tensor } from "../tensor.js";
import type { KVCache } from "./kv-cache.js";
import { storeAddon } from "./native-store.js";

/** Options of {@link LayerCache.attend}. */
export interface AttendOptions {
  /**
   * Adds every slot's attention probability, summed over the queries, to `sum` [rows, slots] f32, where a row is a
   * query head or (summed over the group) a KV head.
   */
  readonly scores?: { readonly sum: Tensor; readonly mode: "query-head" | "kv-head" };
}

/** One layer of a {@link KVCache}. */
export class LayerCache {
  readonly cache: KVCache;
  readonly index: number;

  /** @internal */
  constructor(cache: KVCache, index: number) {
    this.cache = cache;
    this.index = index;
  }

  /** Slots of each KV head. */
  get slots(): number[] {
    return storeAddon()
      .storeDescribe(this.cache, this.index)
      .heads.map((head) => head.slots);
  }

  /**
   * Adds tokens: their positions follow those of the last ones.
   *
   * @param k keys [kvHeads, tokens, headDim], before RoPE if the cache has `rope`; a Tensor (f32, f16, bf16; any
   *   strides with dense rows) or a Float32Array
   * @param v values, alike
   * @param tokens number of tokens; default: axis 1 of a Tensor, or the length of the array
   * @throws {SpindleKVError} ERR_SPINDLEKV_ARGUMENT on a wrong shape, ERR_SPINDLEKV_OUT_OF_MEMORY,
   *   ERR_SPINDLEKV_BUSY while the cache is compressed; the cache is then as before
   */
  append(k: Tensor | Float32Array, v: Tensor | Float32Array, tokens?: number): void {
    const { cache } = this;
    cache.assertIdle("append");
    const { kvHeads, headDim } = cache.options;
    const count = tokens ?? tokensOf(k, kvHeads, headDim);
    cache.forgetSimilarity();
    using keys = this.#onDevice(k, kvHeads, count);
    using values = this.#onDevice(v, kvHeads, count);
    storeAddon().storeAppend(cache, this.index, keys.rows, values.rows, count);
  }

  /**
   * Attention of the last appended tokens over everything the layer holds, causal among themselves.
   *
   * @param q queries [queryHeads, tokens, headDim], before RoPE if the cache has `rope`
   * @param out result, same shape; a Tensor must have the dtype of q
   * @param tokens number of queries, the last so many tokens; default as for append
   * @returns nothing when the result is there or enqueued; a promise when a CUDA result is read into a Float32Array
   * @throws {SpindleKVError} ERR_SPINDLEKV_ARGUMENT on a wrong shape, ERR_SPINDLEKV_BUSY while the cache is compressed
   */
  attend(
    q: Tensor | Float32Array,
    out: Tensor | Float32Array,
    tokens?: number,
    options: AttendOptions = {},
  ): void | Promise<void> {
    const { cache } = this;
    cache.assertIdle("attend");
    const { queryHeads, headDim } = cache.options;
    const count = tokens ?? tokensOf(q, queryHeads, headDim);
    const addon = storeAddon();
    if (out instanceof Float32Array && !readsHostMemory(cache)) {
      return this.#attendIntoHost(q, out, count, options);
    }
    using queries = this.#onDevice(q, queryHeads, count);
    addon.storeAttend(cache, this.index, queries.rows, out, count, cache.scale, options.scores);
  }

  async #attendIntoHost(
    q: Tensor | Float32Array,
    out: Float32Array,
    tokens: number,
    options: AttendOptions,
  ): Promise<void> {
    const { cache } = this;
    const { queryHeads, headDim } = cache.options;
    using queries = this.#onDevice(q, queryHeads, tokens);
    using result = Tensor.zeros(cache.device, "f32", [queryHeads, tokens, headDim]);
    storeAddon().storeAttend(
      cache,
      this.index,
      queries.rows,
      result,
      tokens,
      cache.scale,
      options.scores,
    );
    out.set((await result.read()) as Float32Array);
  }

  /** Host rows as the device can read them; a copy lives until it is disposed. */
  #onDevice(rows: Tensor | Float32Array, heads: number, tokens: number): DeviceRows {
    if (rows instanceof Tensor || readsHostMemory(this.cache)) {
      return { rows, [Symbol.dispose]: () => undefined };
    }
    const shape = [heads, tokens, this.cache.options.headDim];
    const copy = Tensor.from(this.cache.device, "f32", shape, rows);
    return { rows: copy, [Symbol.dispose]: () => copy.dispose() };
  }
}

interface DeviceRows extends Disposable {
  readonly rows: Tensor | Float32Array;
}

function readsHostMemory(cache: KVCache): boolean {
  return cache.device.kind !== "cuda";
}

function tokensOf(rows: Tensor | Float32Array, heads: number, headDim: number): number {
  if (rows instanceof Tensor) return rows.shape[1] ?? 0;
  if (!(rows instanceof Float32Array)) return 0; // what is wrong with it is said natively
  return Math.floor(rows.length / (heads * headDim));
}
