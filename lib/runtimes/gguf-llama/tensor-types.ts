/**
 * The element types of GGUF tensors that this runtime decodes, as data. All of them become float32 once, when the
 * weight is read: a model of q8_0 weights takes 3.8 times its file in memory.
 *
 * q8_0: blocks of 32 elements, an f16 scale and 32 signed bytes each; element = scale * byte.
 * Source: ggml's ggml-common.h (block_q8_0), docs/gguf.md (type numbers).
 */

/** How the elements of a tensor lie in the file. */
export interface TensorType {
  readonly name: string;
  /** Elements of a block, and its bytes; rows are whole blocks. */
  readonly blockElements: number;
  readonly blockBytes: number;
  /** Fills `out` from the start of `view`. */
  decode(view: DataView, out: Float32Array): void;
}

const f32: TensorType = {
  name: "f32",
  blockElements: 1,
  blockBytes: 4,
  decode(view, out) {
    for (let i = 0; i < out.length; i++) out[i] = view.getFloat32(i * 4, true);
  },
};

const f16: TensorType = {
  name: "f16",
  blockElements: 1,
  blockBytes: 2,
  decode(view, out) {
    const values = everyHalf();
    for (let i = 0; i < out.length; i++) out[i] = values[view.getUint16(i * 2, true)];
  },
};

const bf16: TensorType = {
  name: "bf16",
  blockElements: 1,
  blockBytes: 2,
  decode(view, out) {
    const bits = new Uint32Array(out.buffer, out.byteOffset, out.length); // the upper half of a float32
    for (let i = 0; i < out.length; i++) bits[i] = view.getUint16(i * 2, true) << 16;
  },
};

const kBlock = 32;

const q8: TensorType = {
  name: "q8_0",
  blockElements: kBlock,
  blockBytes: 2 + kBlock,
  decode(view, out) {
    for (let first = 0, at = 0; first < out.length; first += kBlock, at += 2 + kBlock) {
      const scale = halfToFloat(view.getUint16(at, true));
      for (let i = 0; i < kBlock; i++) out[first + i] = scale * view.getInt8(at + 2 + i);
    }
  },
};

/** By their number in the file. */
export const tensorTypes: ReadonlyMap<number, TensorType> = new Map([
  [0, f32],
  [1, f16],
  [8, q8],
  [30, bf16],
]);

/** The names of {@link tensorTypes}, for messages. */
export const tensorTypeNames = [...tensorTypes.values()].map(({ name }) => name).join(", ");

let halves: Float32Array | undefined;

/** Every f16 value by its bits; made at first use, a power per element is slow. */
function everyHalf(): Float32Array {
  halves ??= Float32Array.from({ length: 65_536 }, (_, bits) => halfToFloat(bits));
  return halves;
}

/** IEEE 754 binary16: 1 sign, 5 exponent (bias 15), 10 fraction bits. */
export function halfToFloat(bits: number): number {
  const sign = bits & 0x8000 ? -1 : 1;
  const exponent = (bits >> 10) & 0x1f;
  const fraction = bits & 0x3ff;
  if (exponent === 0) return sign * fraction * 2 ** -24;
  if (exponent === 31) return fraction === 0 ? sign * Infinity : NaN;
  return sign * (1 + fraction / 1024) * 2 ** (exponent - 15);
}
