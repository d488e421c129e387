/** Writes float weights in the types of GGUF files, rounded to nearest. */
import { type FloatDType, toBits } from "../oracle/float-formats.ts";
import { floatTensor, type TensorToWrite } from "./gguf-writer.ts";

export type WeightType = "f32" | "f16" | "bf16" | "q8_0";

export function weightTensor(
  type: WeightType,
  shape: number[],
  values: Float32Array,
): TensorToWrite {
  if (type === "f32") return floatTensor(shape, values);
  if (type === "q8_0") return { shape, type: 8, bytes: q8Blocks(values) };
  return { shape, type: type === "f16" ? 1 : 30, bytes: halves(type, values) };
}

function halves(type: FloatDType, values: Float32Array): Uint8Array {
  return new Uint8Array(Uint16Array.from(values, (value) => toBits(type, value)).buffer);
}

/** Blocks of 32: an f16 scale of largest / 127, then the bytes. */
function q8Blocks(values: Float32Array): Uint8Array {
  const out = Buffer.alloc((values.length / 32) * 34);
  for (let block = 0; block * 32 < values.length; block++) {
    const elements = values.subarray(block * 32, block * 32 + 32);
    const scale = elements.reduce((most, x) => Math.max(most, Math.abs(x)), 0) / 127;
    out.writeUInt16LE(toBits("f16", scale), block * 34);
    elements.forEach((x, i) => {
      out.writeInt8(scale === 0 ? 0 : Math.round(x / scale), block * 34 + 2 + i);
    });
  }
  return out;
}
