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

/** Sums of one layer, [rows, slots]. */
interface LayerSums {
  readonly layer: number;
  readonly slots: number;
  readonly values: Float32Array;
}

/** What {@link AttentionSums.keeping} made, to be taken over or disposed. */
export interface KeptSums extends Disposable {
  readonly layers: readonly LayerSums[];
  /** All layers anew, [layers, rows, capacity], where most of the room would be left over. */
  readonly smaller: Tensor<"f32"> | undefined;
}

/** Moves the numbers at the given slots, ascending, to the front; 0 behind them. Most slots follow the one before. */
function keepSlots(values: Float32Array, slots: Int32Array): void {
  for (let at = 0; at < slots.length; ) {
    const first = slots[at] as number;
    const end = endOfRun(slots, at);
    if (first !== at) values.copyWithin(at, first, first + end - at);
    at = end;
  }
  values.fill(0, slots.length);
}

/**
 * Where the run of adjacent slots that begins at `at` ends. By steps that double and then halve: slots less their
 * index never fall, and where one slot of thousands goes the runs are as long.
 */
function endOfRun(slots: Int32Array, at: number): number {
  const offset = (slots[at] as number) - at;
  let [inside, step] = [at, 1];
  while (
    inside + step < slots.length &&
    (slots[inside + step] as number) - inside - step === offset
  ) {
    inside += step;
    step *= 2;
  }
  let outside = Math.min(inside + step, slots.length);
  while (outside - inside > 1) {
    const middle = (inside + outside) >> 1;
    if ((slots[middle] as number) - middle === offset) inside = middle;
    else outside = middle;
  }
  return outside;
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
    this.#adopt(Tensor.from(this.#device, "f32", [layers, rows, capacity], values));
  }

  /** Where attend adds: [rows, capacity] of one layer, or with layer -1 [layers, rows, capacity]. */
  target(layer: number): Tensor<"f32"> {
    const tensor = layer < 0 ? this.#all : this.#layers[layer];
    if (tensor === undefined) throw new Error("attention sums: expected reserve() before target()");
    return tensor;
  }

  /** Sums of a layer, [rows, slots]: where attend adds them up. The caller disposes the view. */
  view(layer: number, slots: number): Tensor<"f32"> {
    this.reserve(slots);
    const { rows } = this.#shape;
    return this.target(layer).view({ shape: [rows, slots], strides: [this.#capacity, 1] });
  }

  /**
   * The sums of the given layers when only the given slots stay; this object stays as it is.
   *
   * @param before slots of each layer's longest head, with those that go
   */
  keeping(kept: readonly KeptIndices[], before: readonly number[]): KeptSums {
    const layers = this.#all === undefined ? [] : kept.map((each) => this.#keptOf(each, before));
    const after = before.map((slots, layer) => {
      const own = kept.find((each) => each.layer === layer);
      return own === undefined ? slots : Math.max(...own.counts);
    });
    const capacity = Math.max(kFirstCapacity, 2 * Math.max(...after));
    const smaller =
      2 * capacity <= this.#capacity ? this.#narrowed(layers, after, capacity) : undefined;
    return { layers, smaller, [Symbol.dispose]: () => smaller?.dispose() };
  }

  #keptOf({ layer, indices, stride, counts }: KeptIndices, before: readonly number[]): LayerSums {
    const { rows, kvHeads } = this.#shape;
    const length = before[layer] ?? 0;
    const values = this.#read(layer, length);
    counts.forEach((count, head) => {
      const slots = indices.subarray(head * stride, head * stride + count);
      const first = (head * rows) / kvHeads;
      for (let row = first; row < first + rows / kvHeads; row++) {
        keepSlots(values.subarray(row * length, (row + 1) * length), slots);
      }
    });
    return { layer, slots: length, values };
  }

  /** All sums in rows of `capacity`: of the layers in `kept` those, of others the first `after` as they are. */
  #narrowed(kept: readonly LayerSums[], after: readonly number[], capacity: number): Tensor<"f32"> {
    const { layers, rows } = this.#shape;
    const all = new Float32Array(layers * rows * capacity);
    after.forEach((slots, layer) => {
      const { values, slots: length } = kept.find((each) => each.layer === layer) ?? {
        values: this.#read(layer, slots),
        slots,
      };
      for (let row = 0; row < rows; row++) {
        const from = row * length;
        all.set(values.subarray(from, from + slots), (layer * rows + row) * capacity);
      }
    });
    return Tensor.from(this.#device, "f32", [layers, rows, capacity], all);
  }

  /** Sums of a layer's first slots, [rows, slots]. */
  #read(layer: number, slots: number): Float32Array {
    using sums = this.view(layer, slots);
    return sums.readSync();
  }

  /** Takes over what {@link keeping} made, which is not to be disposed then. Fails only with the device. */
  replace({ layers, smaller }: KeptSums): void {
    if (smaller !== undefined) {
      this.#adopt(smaller);
      return;
    }
    for (const { layer, slots, values } of layers) {
      using view = this.view(layer, slots);
      view.write(values);
    }
  }

  /** An independent copy. */
  copy(): AttentionSums {
    const sums = new AttentionSums(this.#device, this.#shape, this.mode);
    if (this.#all !== undefined) {
      sums.#adopt(Tensor.from(this.#device, "f32", this.#all.shape, this.#values()));
    }
    return sums;
  }

  /** A copy of all sums. */
  #values(): Float32Array {
    return this.#all === undefined ? new Float32Array(0) : this.#all.readSync();
  }

  /** Goes on with these, [layers, rows, capacity], in place of its own. */
  #adopt(all: Tensor<"f32">): void {
    const { layers, rows } = this.#shape;
    const capacity = all.shape[2] as number;
    this.dispose();
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
