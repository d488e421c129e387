/**
 * What the example runtime asks of a key-value cache, and nothing more.
 *
 * The runtime computes keys, values and queries; positions, RoPE, storage, compression and attention
 * belong to the cache behind these two interfaces. `KVCache` satisfies them; so does any test double. What is
 * optional here is called where a cache has it, and demanded only by the options of `forward` that need it.
 */

/** The cache of one sequence: one entry per transformer layer, in layer order. */
export interface AttentionCache {
  readonly layers: readonly AttentionLayer[];

  /** Called once at the end of each forward pass: the moment for what a method does after a prompt or a step. */
  maintain?(): Promise<unknown>;
}

/** One layer of a sequence's cache. All arrays are dense, row-major float32. */
export interface AttentionLayer {
  /**
   * Adds `tokens` new positions behind the ones already there.
   *
   * @param keys `[kvHeads, tokens, headDim]`, before RoPE
   * @param values `[kvHeads, tokens, headDim]`
   */
  append(keys: Float32Array, values: Float32Array, tokens: number): void;

  /**
   * Causal attention of the `tokens` positions appended last over everything the cache holds. The
   * cache rotates queries and keys (RoPE as the model's configuration states it).
   *
   * @param queries `[queryHeads, tokens, headDim]`, before RoPE
   * @param out `[queryHeads, tokens, headDim]`, overwritten
   */
  attend(queries: Float32Array, out: Float32Array, tokens: number): void | Promise<void>;

  /**
   * What attention does to the residual stream here, in pieces in the order of the tokens. The arrays belong to
   * the runtime: they are valid until the returned promise settles.
   *
   * @param before `[tokens, width]`, as it enters the layer, before its norm
   * @param after `[tokens, width]`, with attention's output added, before the feed-forward part
   */
  observe?(before: Float32Array, after: Float32Array, tokens: number): void | Promise<void>;

  /** Called when the whole prompt is through the layer (`compressLayers`). */
  compress?(): Promise<unknown>;

  /** Passes over `tokens` positions that this layer never sees (`prune`): the next ones come behind them. */
  skip?(tokens: number): void;
}
