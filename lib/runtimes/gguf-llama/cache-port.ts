/**
 * What the example runtime asks of a key-value cache, and nothing more.
 *
 * The runtime computes keys, values and queries; positions, RoPE, storage, compression and attention
 * belong to the cache behind these two interfaces. `KVCache` satisfies them; so does any test double.
 */

/** The cache of one sequence: one entry per transformer layer, in layer order. */
export interface AttentionCache {
  readonly layers: readonly AttentionLayer[];
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
   * cache rotates queries and keys (RoPE on adjacent pairs).
   *
   * @param queries `[queryHeads, tokens, headDim]`, before RoPE
   * @param out `[queryHeads, tokens, headDim]`, overwritten
   */
  attend(queries: Float32Array, out: Float32Array, tokens: number): void | Promise<void>;
}
