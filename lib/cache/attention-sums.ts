import type { Device } from "../device.js";
import { Tensor } from "../tensor.js";

const kFirstCapacity = 256;

/** Slots of one layer that stay: ascending indices [kvHeads, stride], and how many each head has. */
export interface KeptIndices {
  readonly layer: number;
  readonly indices: Int32Array;
  readonly stride: number;
  readonly counts: readonly number[];
}

interface SumsShape {
  readonly layers: number;
  readonly kvHeads: number;
  /** Rows of a layer: its query heads, or its KV heads where sums are over the group. */
  readonly rows: number;
}

/**
 * Sums of attention that a cache has attend add up for its method's scorer, slot by slot: what H2O ranks by.
 *
 * One tensor [layers, rows, capacity] f32 that doubles when it is full and is rewritten when slots go.
 */
export class AttentionSums implements Disposable {
  readonly mode: "query-head" | "kv-head";
  readonly #device: Device;
  readonly #shape: SumsShape;
  #capacity = 0;
  #all: Tensor<"f32"> | undefined;
  #layers: Tensor<"f32">[] = [];

  constructor(device: Device, shape: SumsShape, mode: "query-head" | "kv-head") {
    this.#device = device;
    this.#shape = shape;
    this.mode = mode;
  }

  get bytes(): number {
    return this.#all?.sizeBytes ?? 0;
  }

  /** Makes room for so many slots a head; the new ones start at 0. */
  reserve(slots: number): void {
    if (slots <= this.#capacity) return;
    const { layers, rows } = this.#shape;
    const old = this.#values();
    const capacity = Math.max(kFirstCapacity, 2 * this.#capacity, slots);
    const values = new Float32Array(layers * rows * capacity);
    for (let row = 0; row < layers * rows; row++) {
      const from = row * this.#capacity;
      values.set(old.subarray(from, from + this.#capacity), row * capacity);
    }
    this.#replace(values, capacity);
  }

  /** Where attend adds: [rows, capacity] of one layer, or with layer -1 [layers, rows, capacity]. */
  target(layer: number): Tensor<"f32"> {
    const tensor = layer < 0 ? this.#all : this.#layers[layer];
    if (tensor === undefined) throw new Error("attention sums: expected reserve() before target()");
    return tensor;
  }

  /** Sums of a layer, [rows, slots]. */
  async read(layer: number, slots: number): Promise<Float32Array> {
    const { rows } = this.#shape;
    const out = new Float32Array(rows * slots);
    if (this.#all === undefined) return out;
    const values = await this.target(layer).read();
    const width = Math.min(slots, this.#capacity);
    for (let row = 0; row < rows; row++) {
      const from = row * this.#capacity;
      out.set(values.subarray(from, from + width), row * slots);
    }
    return out;
  }

  /** These sums when of the given layers only the given slots stay; this object stays as it is. */
  keeping(kept: readonly KeptIndices[]): AttentionSums {
    const { rows, kvHeads } = this.#shape;
    const values = this.#values();
    for (const { layer, indices, stride, counts } of kept) {
      for (let row = 0; row < rows; row++) {
        const head = Math.floor((row * kvHeads) / rows);
        const at = (layer * rows + row) * this.#capacity;
        const sums = values.subarray(at, at + this.#capacity);
        const count = counts[head] ?? 0;
        // Indices ascend: what is read was not written yet.
        for (let i = 0; i < count; i++) sums[i] = sums[indices[head * stride + i] ?? 0] ?? 0;
        sums.fill(0, count);
      }
    }
    return this.#with(values);
  }

  /** An independent copy. */
  copy(): AttentionSums {
    return this.#with(this.#values());
  }

  #with(values: Float32Array): AttentionSums {
    const sums = new AttentionSums(this.#device, this.#shape, this.mode);
    if (values.length > 0) sums.#replace(values, this.#capacity);
    return sums;
  }

  /** A copy of all sums. */
  #values(): Float32Array {
    return this.#all === undefined ? new Float32Array(0) : this.#all.readSync();
  }

  #replace(values: Float32Array, capacity: number): void {
    const { layers, rows } = this.#shape;
    this.dispose();
    const all = Tensor.from(this.#device, "f32", [layers, rows, capacity], values);
    this.#all = all;
    this.#layers = Array.from({ length: layers }, (_, layer) =>
      all.view({ offset: layer * rows * capacity, shape: [rows, capacity] }),
    );
    this.#capacity = capacity;
  }

  dispose(): void {
    for (const view of this.#layers) view.dispose();
    this.#all?.dispose();
    this.#layers = [];
    this.#all = undefined;
    this.#capacity = 0;
  }

  [Symbol.dispose](): void {
    this.dispose();
  }
}
