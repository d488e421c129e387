import type { ByteParts, HeadStats, PoolStats } from "./native-store.js";

/** One layer of {@link CacheStats}. */
export interface LayerStats {
  /** Bytes of the layer's pages. */
  readonly bytes: number;
  readonly parts: ByteParts;
  /** Slots summed over the KV heads. */
  readonly slots: number;
  readonly heads: readonly HeadStats[];
}

/** What a cache holds. Bytes of pages shared with forks are counted in each of them. */
export interface CacheStats {
  /** Device the cache lives on, as `openDevice` names it. */
  readonly device: string;
  readonly method: string;
  /** Tokens appended so far. */
  readonly tokens: number;
  readonly bytes: ByteParts;
  /** Bytes of recorded queries, beside the cache; 0 after `compress()`. */
  readonly queryBytes: number;
  /** Bytes of sums of attention, beside the cache; 0 where no scorer reads them. */
  readonly sumBytes: number;
  /** Bytes of the same tokens in a native GQA f16 cache. */
  readonly nativeBytes: number;
  /** bytes.total / nativeBytes; 0 for an empty cache. */
  readonly ratio: number;
  readonly perLayer: readonly LayerStats[];
  /** The pool the cache draws on, with everything else on it. */
  readonly pool: PoolStats;
}

/** Sum of byte parts. */
export function sumParts(parts: readonly ByteParts[]): ByteParts {
  const total = (name: keyof ByteParts) => parts.reduce((sum, part) => sum + part[name], 0);
  return {
    raw: total("raw"),
    codewords: total("codewords"),
    references: total("references"),
    magnitudes: total("magnitudes"),
    positions: total("positions"),
    masks: total("masks"),
    betas: total("betas"),
    slack: total("slack"),
    total: total("total"),
  };
}
