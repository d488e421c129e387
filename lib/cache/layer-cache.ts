import { Tensor } from "../tensor.js";
import { compressLayer } from "./cascade.js";
import type { KVCache } from "./kv-cache.js";
import { storeAddon } from "./native-store.js";
import { type Rows, readsHostMemory, runStaged, Staging } from "./staging.js";
import { modeNumber, rowsArgument, type ScoreSums, tokensOf } from "./step.js";

/** Options of {@link LayerCache.attend}. */
export interface AttendOptions {
  /**
   * Adds every slot's attention probability, summed over the queries, to `sum` [rows, slots] f32, where a row is a
   * query head or (summed over the group) a KV head.
   */
  readonly scores?: ScoreSums;
}

const kNoOptions: AttendOptions = {};

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
    return storeAddon().storeSlots(this.cache, this.index);
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
  append(k: Rows, v: Rows, tokens?: number): void {
    const { cache } = this;
    cache.assertIdle("append");
    const { kvHeads, headDim } = cache.options;
    const count = tokens ?? tokensOf(k, 1, kvHeads * headDim);
    cache.forgetSimilarity();
    const addon = storeAddon();
    if (readsHostMemory(cache.device)) {
      addon.storeAppend(cache.handle, this.index, rowsArgument(k), rowsArgument(v), count);
      return;
    }
    using staging = new Staging();
    const onDevice = (name: string, rows: Rows) =>
      rowsArgument(staging.input("append", name, cache.device, [kvHeads, count, headDim], rows));
    addon.storeAppend(cache.handle, this.index, onDevice("k", k), onDevice("v", v), count);
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
    q: Rows,
    out: Rows,
    tokens?: number,
    options: AttendOptions = kNoOptions,
  ): void | Promise<void> {
    const { cache } = this;
    cache.assertIdle("attend");
    const { queryHeads, headDim } = cache.options;
    const count = tokens ?? tokensOf(q, 1, queryHeads * headDim);
    if (readsHostMemory(cache.device) || (q instanceof Tensor && out instanceof Tensor)) {
      this.#attend(q, out, count, options);
      return undefined;
    }
    return runStaged((staging) => {
      const shape = [queryHeads, count, headDim];
      const queries = staging.input("attend", "q", cache.device, shape, q);
      const result = staging.output("attend", "out", cache.device, shape, out);
      this.#attend(queries, result, count, options);
    });
  }

  #attend(q: Rows, out: Rows, tokens: number, options: AttendOptions): void {
    const { cache } = this;
    const scores = cache.sumsFor("attend", this.index, 0, options.scores);
    storeAddon().storeAttend(
      cache.handle,
      this.index,
      rowsArgument(q),
      rowsArgument(out),
      tokens,
      cache.scale,
      scores === undefined ? -1 : Tensor.handleOf(scores.sum),
      modeNumber("attend", scores),
    );
  }

  /**
   * Shows the cache what the layer's attention did to the residual stream, for budgets that read it
   * (SqueezeAttention). Call it for the tokens of the prompt, in any number of pieces.
   *
   * @param before residual stream that enters the layer, [tokens, width], before the norm
   * @param after the same after the attention's output was added
   * @throws {SpindleKVError} ERR_SPINDLEKV_ARGUMENT when the shapes differ or do not divide into tokens
   */
  observe(before: Float32Array, after: Float32Array, tokens: number): void {
    this.cache.hiddenCosines[this.index].add(before, after, tokens);
  }

  /**
   * Compresses this layer and those before it, for methods with schedule "per-layer": called for one layer after the
   * other, as the whole prompt has gone through it. Leaves what `cache.compress()` would leave after the last layer.
   *
   * @throws {SpindleKVError} as `cache.compress()`, and ERR_SPINDLEKV_ARGUMENT when the method has another schedule or
   *   a layer was left out
   */
  async compress(): Promise<void> {
    await this.cache.exclusively("compress", () => compressLayer(this.cache, this.index));
  }

  /**
   * Moves the layer's position on by tokens that it does not store: those which a pruning runtime dropped before it.
   *
   * @throws {SpindleKVError} ERR_SPINDLEKV_ARGUMENT when `tokens` is not an integer of 0 or more,
   *   ERR_SPINDLEKV_BUSY while the cache is compressed
   */
  skip(tokens: number): void {
    this.cache.assertIdle("skip");
    storeAddon().storeSkip(this.cache, this.index, tokens);
  }
}
