// Caches under test that keep what is recent, on the recall model: an eviction one can foresee.
import type { MeasuredCache } from "../../lib/eval/long-decode.ts";
import type { TrialChoice } from "../../lib/eval/index.ts";
import { loadGgufLlama } from "../../lib/runtimes/gguf-llama/index.ts";
import { ReferenceCache } from "../runtimes/reference-cache.ts";

export const { model, tokenizer } = await loadGgufLlama(
  new URL("../model/recall.gguf", import.meta.url).pathname,
);
const { kvHeads, headDim } = model.config;

/** Bytes of a slot of one layer in f16. */
export const bytesPerSlot = kvHeads * headDim * 2 * 2;

/** What was done with the caches. */
export interface CacheLog {
  readonly events: string[];
  /** Caches that were not disposed. */
  open: number;
}

/**
 * A cache whose `compress` keeps the newest `keep` of its slots.
 *
 * @param cap slots that `maintain` leaves; undefined: there is no `maintain`
 */
export function recentCache(log: CacheLog, cap?: number): MeasuredCache {
  return wrap(new ReferenceCache(model.config), undefined, log, cap);
}

function wrap(
  cache: ReferenceCache,
  choice: TrialChoice | undefined,
  log: CacheLog,
  cap: number | undefined,
): MeasuredCache {
  log.open++;
  const perLayer = () => cache.layers.map((layer) => layer.slots * bytesPerSlot);
  const total = () => perLayer().reduce((sum, bytes) => sum + bytes, 0);
  return {
    layers: cache.layers,
    fork: (next) => wrap(cache.fork(), next, log, cap),
    compress: async () => {
      const { slots } = cache.layers[0];
      log.events.push(`${choice?.method} ${choice?.keep} of ${slots}`);
      if (choice?.keep != null) cache.keepRecent(Math.floor(choice.keep * slots));
    },
    ...(cap === undefined ? {} : { maintain: async () => cache.keepRecent(cap) }),
    stats: () => ({ total: total(), perLayer: perLayer() }),
    memory: () => ({ cacheBytes: total(), poolBytes: total(), reservedBytes: 2 ** 22 }),
    dispose: () => {
      log.open--;
    },
  };
}
