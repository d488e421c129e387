// What a cache keeps, against what a method's oracle says it must keep, and attention over it.
import { expect } from "vitest";
import { type KVCache, readStoredSlots, type StoredSlots } from "../../lib/index.ts";
import { ask, type Prompt } from "../cache/fixtures.ts";
import { compareAttention, denseValues, type ReferenceOptions } from "../cache/reference.ts";
import type { Selection } from "../oracle/select-topk.ts";

/** Every KV head of a layer. */
export function storedLayer(cache: KVCache, layer: number): Promise<StoredSlots[]> {
  const heads = Array.from({ length: cache.options.kvHeads }, (_, head) => head);
  return Promise.all(heads.map((head) => readStoredSlots(cache, layer, head)));
}

/** Positions and visibility of every head of a layer are exactly those. */
export async function expectKept(
  cache: KVCache,
  layer: number,
  expected: readonly Selection[],
  hasMasks = false,
): Promise<void> {
  const heads = await storedLayer(cache, layer);
  heads.forEach((head, h) => {
    const name = `layer ${layer}, head ${h}`;
    expect(Array.from(head.positions), name).toEqual(expected[h].indices);
    const masks = hasMasks ? expected[h].masks : expected[h].indices.map(() => 0xffff);
    expect(Array.from(head.masks), `masks of ${name}`).toEqual(masks);
  });
}

/** Attention of the last token equals the dense reference over the kept slots. */
export async function expectAttention(
  cache: KVCache,
  prompt: Prompt,
  kept: readonly (readonly Selection[])[],
  options: Omit<ReferenceOptions, "layer" | "from" | "to"> & { readonly hasMasks?: boolean },
): Promise<void> {
  const to = prompt.tokens;
  const outputs = await ask(cache, prompt, to - 1, to);
  outputs.forEach((out, layer) => {
    const values = denseValues(prompt, {
      ...options,
      layer,
      from: to - 1,
      to,
      kept: (head) => kept[layer][head].indices,
      ...(options.hasMasks === true ? { masks: (head) => kept[layer][head].masks } : {}),
    });
    compareAttention(`layer ${layer}`, out, values, prompt.shape.dtype ?? "f16");
  });
}
