// Tensors under guard: every tensor of a case lies inside a larger allocation filled with a canary pattern, at
// the layout asked for. After the op the arena checks that all canaries (margins and the gaps between strided
// rows) are untouched and that inputs still hold what they held.
import { fromBits, toBits } from "../oracle/float-formats.ts";
import { type Device, type DType, Tensor } from "./api.ts";
import { type Layout, offsetsOf, stridesOf } from "./layouts.ts";
import type { Prng } from "./prng.ts";

export type Data = ArrayLike<number>;

const ELEMENT_BYTES: Record<DType, number> = {
  f32: 4,
  f16: 2,
  bf16: 2,
  i32: 4,
  u16: 2,
  u8: 1,
  u64: 8,
};
// Keeps the inner tensor at the alignment of an allocation (256 bytes).
const MARGIN_BYTES = 256;
// Elements between padded rows; odd, so that rows lose their alignment unless `aligned` is asked for.
const ODD_GAP = 3;
const ALIGNED_GAP = 8;

// Finite in every float dtype and unlike any data of the tests.
const CANARY: Record<DType, number> = {
  f32: 0xc996b43f,
  f16: 0xd3a5,
  bf16: 0xd3a5,
  i32: 0x5a5a5a5a,
  u16: 0xa5a5,
  u8: 0xa5,
  u64: 0xa5,
};

interface Place {
  readonly name: string;
  readonly base: Tensor;
  readonly view: Tensor;
  readonly before: ArrayLike<number>;
  /** 1 where the op may write. */
  readonly writable: Uint8Array;
}

export interface PlaceOptions {
  readonly layout?: Layout;
  /** Row strides keep 16-byte alignment in padded layouts. */
  readonly aligned?: boolean;
  readonly name?: string;
}

function bitsArray(dtype: DType, length: number): Uint32Array | Uint16Array | Uint8Array {
  if (ELEMENT_BYTES[dtype] === 4) return new Uint32Array(length);
  return ELEMENT_BYTES[dtype] === 2 ? new Uint16Array(length) : new Uint8Array(length);
}

function toData(dtype: DType, bits: Uint32Array | Uint16Array | Uint8Array) {
  if (dtype === "f32") return new Float32Array(bits.buffer);
  if (dtype === "i32") return new Int32Array(bits.buffer);
  if (dtype === "u64") return BigUint64Array.from(Array.from(bits, BigInt));
  return bits as Uint16Array | Uint8Array;
}

/** Writes data to bits[offsets]; the index of the first number that its dtype does not hold, or -1. */
function writeBits(
  dtype: DType,
  data: Data,
  bits: Uint32Array | Uint16Array | Uint8Array,
  offsets: Int32Array,
): number {
  if (dtype === "f32") {
    const floats = new Float32Array(bits.buffer);
    for (let i = 0; i < data.length; i++) floats[offsets[i]] = data[i];
    return -1;
  }
  if (dtype !== "f16" && dtype !== "bf16") {
    for (let i = 0; i < data.length; i++) bits[offsets[i]] = data[i];
    return -1;
  }
  for (let i = 0; i < data.length; i++) {
    const value = data[i];
    const word = toBits(dtype, value);
    bits[offsets[i]] = word;
    // Oracles see the numbers, the op sees the bits: they must be the same.
    if (!Number.isNaN(value) && fromBits(dtype, word) !== value) return i;
  }
  return -1;
}

async function readRaw(tensor: Tensor): Promise<ArrayLike<number>> {
  const { dtype } = tensor;
  if (dtype === "f32" || dtype === "f16" || dtype === "bf16") return tensor.readBits();
  const data = await tensor.read();
  return dtype === "u64" ? Array.from(data as BigUint64Array, Number) : (data as Int32Array);
}

export class Arena {
  private readonly places: Place[] = [];

  constructor(
    readonly device: Device,
    readonly random: Prng,
  ) {}

  /** A tensor that the op only reads. */
  input(dtype: DType, shape: readonly number[], data: Data, options: PlaceOptions = {}): Tensor {
    return this.place(dtype, shape, data, false, options);
  }

  /** A tensor that the op writes; it starts with canaries, or with `data`. */
  output(
    dtype: DType,
    shape: readonly number[],
    options: PlaceOptions & { data?: Data } = {},
  ): Tensor {
    return this.place(dtype, shape, options.data, true, options);
  }

  private place(
    dtype: DType,
    shape: readonly number[],
    data: Data | undefined,
    isWritable: boolean,
    options: PlaceOptions,
  ): Tensor {
    const { layout = "contiguous", aligned = false, name } = options;
    const margin = MARGIN_BYTES / ELEMENT_BYTES[dtype];
    const { strides, offset, size } = stridesOf(shape, layout, aligned ? ALIGNED_GAP : ODD_GAP);
    const offsets = offsetsOf(shape, strides, margin + offset);
    const bits = bitsArray(dtype, size + offset + 2 * margin).fill(CANARY[dtype]);
    const writable = new Uint8Array(bits.length);
    if (isWritable) for (const at of offsets) writable[at] = 1;
    if (data !== undefined) {
      if (data.length !== offsets.length) throw new Error(`${name}: data does not fill ${shape}`);
      const wrong = writeBits(dtype, data, bits, offsets);
      if (wrong >= 0) {
        throw new Error(`${name}: ${data[wrong]} is no ${dtype}; round test data first`);
      }
    }
    const base = Tensor.from(this.device, dtype, [bits.length], toData(dtype, bits));
    const view = base.view({ offset: margin + offset, shape: [...shape], strides });
    this.places.push({
      name: name ?? `${dtype} [${shape.join(", ")}]`,
      base,
      view,
      before: dtype === "i32" ? Int32Array.from(bits) : bits,
      writable,
    });
    return view;
  }

  /** Throws when a canary is gone or an input has changed. */
  async check(): Promise<void> {
    for (const { name, base, before, writable } of this.places) {
      const after = await readRaw(base);
      for (let i = 0; i < before.length; i++) {
        if (before[i] !== after[i] && writable[i] === 0) {
          throw new Error(
            `${name}: element ${i} of the guarded allocation changed from ${before[i]} to ${after[i]}, ` +
              "which is an input, a margin or a gap between rows",
          );
        }
      }
    }
  }

  dispose(): void {
    for (const { base, view } of this.places) {
      view.dispose();
      base.dispose();
    }
    this.places.length = 0;
  }
}

/** Values of a tensor as numbers (u64 is read by tensor.read itself). */
export async function readNumbers(tensor: Tensor): Promise<ArrayLike<number>> {
  return (await tensor.read()) as ArrayLike<number> as Float32Array | Int32Array | Uint16Array;
}
