/** Writes GGUF bytes for tests: just what the runtime's reader understands, and broken variants of it. */

/** A number is written as u32 if it is whole, as f32 otherwise; the objects name the type where it matters. */
export type Value =
  | string
  | number
  | boolean
  | readonly string[]
  | readonly number[]
  | { readonly f32: number | readonly number[] }
  | { readonly i32: readonly number[] };

export interface TensorToWrite {
  readonly shape: readonly number[];
  /** ggml type number: 0 f32, 1 f16, 8 q8_0, 30 bf16, others for tests of refusal. */
  readonly type: number;
  readonly bytes: Uint8Array;
}

/** f32 tensor with the contiguous extent first. */
export function floatTensor(shape: number[], values: ArrayLike<number>): TensorToWrite {
  return { shape, type: 0, bytes: new Uint8Array(Float32Array.from(values).buffer) };
}

export function writeGguf(
  metadata: Record<string, Value>,
  tensors: Record<string, TensorToWrite>,
): Buffer {
  const alignment = 32;
  const header: Buffer[] = [
    Buffer.from("GGUF"),
    u32(3),
    u64(Object.keys(tensors).length),
    u64(Object.keys(metadata).length),
  ];
  for (const [key, value] of Object.entries(metadata)) header.push(text(key), typed(value));
  const data: Buffer[] = [];
  let offset = 0;
  for (const [name, { shape, type, bytes }] of Object.entries(tensors)) {
    header.push(text(name), u32(shape.length), ...shape.map(u64), u32(type), u64(offset));
    const padded = Buffer.alloc(Math.ceil(bytes.length / alignment) * alignment);
    padded.set(bytes);
    data.push(padded);
    offset += padded.length;
  }
  const head = Buffer.concat(header);
  const padding = Buffer.alloc((alignment - (head.length % alignment)) % alignment);
  return Buffer.concat([head, padding, ...data]);
}

function typed(value: Value): Buffer {
  if (typeof value === "string") return Buffer.concat([u32(8), text(value)]);
  if (typeof value === "boolean") return Buffer.concat([u32(7), Buffer.from([value ? 1 : 0])]);
  if (typeof value === "number") {
    return Number.isInteger(value) ? Buffer.concat([u32(4), u32(value)]) : f32(value);
  }
  if ("i32" in value) return list(5, value.i32.map(i32));
  if ("f32" in value) {
    return typeof value.f32 === "number" ? f32(value.f32) : list(6, value.f32.map(float));
  }
  const isText = typeof value[0] === "string";
  const items = value.map((item) => (typeof item === "string" ? text(item) : u32(item)));
  return list(isText ? 8 : 4, items);
}

function list(type: number, items: readonly Buffer[]): Buffer {
  return Buffer.concat([u32(9), u32(type), u64(items.length), ...items]);
}

function i32(value: number): Buffer {
  const bytes = Buffer.alloc(4);
  bytes.writeInt32LE(value);
  return bytes;
}

function u32(value: number): Buffer {
  const bytes = Buffer.alloc(4);
  bytes.writeUInt32LE(value);
  return bytes;
}

function u64(value: number): Buffer {
  const bytes = Buffer.alloc(8);
  bytes.writeBigUInt64LE(BigInt(value));
  return bytes;
}

function float(value: number): Buffer {
  const bytes = Buffer.alloc(4);
  bytes.writeFloatLE(value);
  return bytes;
}

function f32(value: number): Buffer {
  return Buffer.concat([u32(6), float(value)]);
}

function text(value: string): Buffer {
  const bytes = Buffer.from(value);
  return Buffer.concat([u64(bytes.length), bytes]);
}
