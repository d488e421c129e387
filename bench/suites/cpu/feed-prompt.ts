/** A prompt that several caches get alike. */
import type { KVCache } from "spindlekv";
import type { Workbench } from "../../harness/workbench.ts";

export interface Prompt {
  readonly slots: number;
  /** Queries at its end that attend, which is what scorers need. */
  readonly window: number;
  /** Keys or values of a layer, [kvHeads, slots, headDim]. */
  readonly rows: (layer: number) => Float32Array;
}

/** Appends one prompt to all layers of the caches, whose shapes are the same, and has its last queries attend. */
export function feedPrompt(
  bench: Workbench,
  caches: readonly KVCache[],
  { slots, window, rows }: Prompt,
): void {
  const { layers, queryHeads, headDim } = caches[0].options;
  for (let layer = 0; layer < layers; layer++) {
    const k = rows(layer);
    const v = rows(layer);
    const q = bench.normals(queryHeads * window * headDim);
    for (const cache of caches) {
      cache.layers[layer].append(k, v, slots);
      cache.layers[layer].attend(q, new Float32Array(q.length), window);
    }
  }
}
