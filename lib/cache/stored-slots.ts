import type { KVCache } from "./kv-cache.js";
import { type ExportedSegment, storeAddon } from "./native-store.js";

/** The slots of one KV head, decoded to float32. */
export interface StoredSlots {
  readonly slots: number;
  /** Logical positions, [slots]. */
  readonly positions: Int32Array;
  /** Bit g: visible to query head g of the group, [slots]; 0xffff where every head sees it. */
  readonly masks: Uint16Array;
  /** Keys as attention reads them before any rotation that is still due, [slots, headDim]. */
  readonly keys: Float32Array;
  /** Values, [slots, headDim]. */
  readonly values: Float32Array;
  /** 1 where the key is stored after RoPE, [slots]. */
  readonly isRotated: Uint8Array;
}

/** Number of a float16 bit pattern. */
function fromHalf(bits: number): number {
  const sign = bits & 0x8000 ? -1 : 1;
  const exponent = (bits >> 10) & 0x1f;
  const fraction = bits & 0x3ff;
  if (exponent === 0) return sign * fraction * 2 ** -24;
  if (exponent === 31) return fraction === 0 ? sign * Number.POSITIVE_INFINITY : Number.NaN;
  return sign * (1 + fraction / 1024) * 2 ** (exponent - 15);
}

function toFloats(buffer: ArrayBuffer, dtype: "f32" | "f16" | "bf16"): Float32Array {
  if (dtype === "f32") return new Float32Array(buffer);
  const bits = new Uint16Array(buffer);
  if (dtype === "f16") return Float32Array.from(bits, fromHalf);
  return new Float32Array(Uint32Array.from(bits, (value) => value * 65536).buffer);
}

function toRefs(buffer: ArrayBuffer, bytes: number): Uint16Array | Uint32Array {
  return bytes === 2 ? new Uint16Array(buffer) : new Uint32Array(buffer);
}

/**
 * Reads the stored slots of one KV head back, decoding references: row = magnitude * codeword.
 *
 * For inspection; attention never does this.
 */
export async function readStoredSlots(
  cache: KVCache,
  layer: number,
  head: number,
): Promise<StoredSlots> {
  cache.assertIdle("readStoredSlots");
  return await decodeStoredSlots(cache, layer, head);
}

/** {@link readStoredSlots} for a compression, which works on a cache that is busy. */
export async function decodeStoredSlots(
  cache: KVCache,
  layer: number,
  head: number,
): Promise<StoredSlots> {
  const segments = await storeAddon().storeExportHead(cache, { layer, head });
  const { headDim } = cache.options;
  const dtype = cache.options.dtype ?? "f16";
  const slots = segments.reduce((sum, segment) => sum + segment.slots, 0);
  const result = {
    slots,
    positions: new Int32Array(slots),
    masks: new Uint16Array(slots).fill(0xffff),
    keys: new Float32Array(slots * headDim),
    values: new Float32Array(slots * headDim),
    isRotated: new Uint8Array(slots),
  };
  let first = 0;
  for (const segment of segments) {
    result.positions.set(new Int32Array(segment.positions), first);
    if (segment.mask.byteLength > 0) result.masks.set(new Uint16Array(segment.mask), first);
    result.isRotated.fill(segment.isRotated ? 1 : 0, first, first + segment.slots);
    result.keys.set(rowsOf(segment, "k", dtype, headDim), first * headDim);
    result.values.set(rowsOf(segment, "v", dtype, headDim), first * headDim);
    first += segment.slots;
  }
  return result;
}

function rowsOf(
  segment: ExportedSegment,
  side: "k" | "v",
  dtype: "f32" | "f16" | "bf16",
  headDim: number,
): Float32Array {
  const stored = toFloats(segment[side], dtype);
  if (segment.codec === "raw") return stored;
  const refs = toRefs(segment[side === "k" ? "kRef" : "vRef"], segment.refBytes);
  const magnitudes = toFloats(segment[side === "k" ? "kMagnitude" : "vMagnitude"], dtype);
  const rows = new Float32Array(segment.slots * headDim);
  for (let slot = 0; slot < segment.slots; slot++) {
    const codeword = (refs[slot] as number) * headDim;
    const magnitude = magnitudes[slot] as number;
    for (let d = 0; d < headDim; d++) {
      rows[slot * headDim + d] = magnitude * (stored[codeword + d] as number);
    }
  }
  return rows;
}
