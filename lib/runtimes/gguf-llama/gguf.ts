/**
 * Reads a GGUF file (versions 2 and 3, little-endian): metadata, the tensor directory, and the tensors
 * of the types in tensor-types.ts.
 *
 * Layout, after the GGUF specification in the ggml repository (docs/gguf.md):
 *   "GGUF" | u32 version | u64 tensors | u64 pairs | pairs | tensor directory | padding | tensor data
 * Every length is checked against the file's end before it is used, so a truncated or corrupt file
 * ends in an Error that names the place. Tensors of other types are listed but not decoded.
 * The whole file is held in memory: meant for small models. Why not a parser from npm:
 * docs/decisions/0002-gguf-reader.md.
 */
import { readFile } from "node:fs/promises";
import { fileError } from "./failures.js";
import { tensorTypeNames, tensorTypes } from "./tensor-types.js";

/** A metadata value; 64-bit integers beyond 2^53 stay bigint. */
export type GgufValue = string | number | bigint | boolean | readonly GgufValue[];

/** One entry of the tensor directory. */
export interface GgufTensorInfo {
  readonly name: string;
  /** Extents as stored: the first is the contiguous one. */
  readonly shape: readonly number[];
  /** Name of the ggml type, for example "f16". */
  readonly type: string;
  /** Offset of the first byte from the start of the file. */
  readonly byteOffset: number;
}

/** A parsed file. */
export interface GgufFile {
  readonly version: number;
  readonly metadata: ReadonlyMap<string, GgufValue>;
  readonly tensors: ReadonlyMap<string, GgufTensorInfo>;
  /** A tensor's elements as a fresh float32 array. @throws Error for an unknown name or type */
  readTensor(name: string): Float32Array;
}

const kDefaultAlignment = 32;
const kMaxDimensions = 4;
const kMaxArrayDepth = 4; // nesting that no real file reaches; bounds the recursion on corrupt ones

/** Reads and parses the file at `path`. */
export async function readGguf(path: string): Promise<GgufFile> {
  return parseGguf(await readFile(path), path);
}

/** Parses a file's bytes; `label` names them in error messages. */
export function parseGguf(bytes: Uint8Array, label = "gguf"): GgufFile {
  const cursor = new Cursor(bytes, label);
  if (cursor.bytes(4, "magic").join() !== "71,71,85,70") {
    throw fileError(`${label}: expected the magic bytes "GGUF" at offset 0, got something else`);
  }
  const version = cursor.u32("version");
  if (version !== 2 && version !== 3) {
    throw fileError(`${label}: expected GGUF version 2 or 3, got ${version}`);
  }
  const tensorCount = cursor.count("tensor count", 24); // name length, one extent, type, offset
  const pairCount = cursor.count("metadata count", 13); // key length, type, one byte of value
  const metadata = new Map<string, GgufValue>();
  for (let i = 0; i < pairCount; i++) {
    const key = cursor.string(`metadata key ${i}`);
    if (metadata.has(key)) throw fileError(`${label}: metadata key "${key}" occurs twice`);
    metadata.set(key, cursor.value(cursor.u32(`type of "${key}"`), `value of "${key}"`, 0));
  }

  const entries: { name: string; shape: number[]; typeId: number; offset: number }[] = [];
  for (let i = 0; i < tensorCount; i++) {
    const name = cursor.string(`name of tensor ${i}`);
    const rank = cursor.u32(`rank of "${name}"`);
    if (rank < 1 || rank > kMaxDimensions) {
      throw fileError(
        `${label}: expected 1 to ${kMaxDimensions} extents for "${name}", got ${rank}`,
      );
    }
    const shape = Array.from({ length: rank }, () => cursor.size(`extent of "${name}"`));
    const typeId = cursor.u32(`type of "${name}"`);
    entries.push({ name, shape, typeId, offset: cursor.size(`offset of "${name}"`) });
  }

  const alignment = metadata.get("general.alignment") ?? kDefaultAlignment;
  if (typeof alignment !== "number" || alignment < 1 || alignment % 8 !== 0) {
    throw fileError(`${label}: expected general.alignment to be a multiple of 8, got ${alignment}`);
  }
  const dataStart = Math.ceil(cursor.offset / alignment) * alignment;
  const tensors = new Map<string, GgufTensorInfo>();
  for (const { name, shape, typeId, offset } of entries) {
    const known = tensorTypes.get(typeId);
    const { blockElements, blockBytes } = known ?? { blockElements: 1, blockBytes: 0 };
    if (shape[0] % blockElements !== 0) {
      throw fileError(
        `${label}: expected rows of a multiple of ${blockElements} elements for "${name}", got ${shape[0]}`,
      );
    }
    const sizeBytes = (elementsOf(shape) / blockElements) * blockBytes;
    const byteOffset = dataStart + offset;
    if (offset % alignment !== 0) {
      throw fileError(`${label}: expected "${name}" at a multiple of ${alignment}, got ${offset}`);
    }
    if (byteOffset + sizeBytes > bytes.byteLength) {
      throw fileError(
        `${label}: expected ${sizeBytes} bytes for tensor "${name}" at offset ${byteOffset}, ` +
          `got a file of ${bytes.byteLength} bytes (truncated or corrupt)`,
      );
    }
    if (tensors.has(name)) throw fileError(`${label}: tensor "${name}" occurs twice`);
    tensors.set(name, { name, shape, type: known?.name ?? `ggml type ${typeId}`, byteOffset });
  }
  const types = new Map(entries.map(({ name, typeId }) => [name, tensorTypes.get(typeId)]));

  const readTensor = (name: string): Float32Array => {
    const info = tensors.get(name);
    if (info === undefined) throw fileError(`${label}: there is no tensor "${name}"`);
    const type = types.get(name);
    if (type === undefined) {
      throw fileError(
        `${label}: expected one of ${tensorTypeNames} for "${name}", got ${info.type}`,
      );
    }
    const out = new Float32Array(elementsOf(info.shape));
    type.decode(new DataView(bytes.buffer, bytes.byteOffset + info.byteOffset), out);
    return out;
  };
  return { version, metadata, tensors, readTensor };
}

const elementsOf = (shape: readonly number[]) =>
  shape.reduce((product, extent) => product * extent, 1);

/** A position in the bytes; every read checks that the bytes are there. */
class Cursor {
  offset = 0;
  private readonly data: Uint8Array;
  private readonly view: DataView;
  private readonly label: string;

  constructor(data: Uint8Array, label: string) {
    this.data = data;
    this.view = new DataView(data.buffer, data.byteOffset, data.byteLength);
    this.label = label;
  }

  /** Moves past `length` bytes and returns where they start. */
  private take(length: number, what: string): number {
    const start = this.offset;
    if (start + length > this.data.byteLength) {
      throw fileError(
        `${this.label}: expected ${length} bytes for ${what} at offset ${start}, ` +
          `got ${this.data.byteLength - start} (truncated or corrupt)`,
      );
    }
    this.offset = start + length;
    return start;
  }

  bytes(length: number, what: string): Uint8Array {
    const start = this.take(length, what);
    return this.data.subarray(start, start + length);
  }

  u32(what: string): number {
    return this.view.getUint32(this.take(4, what), true);
  }

  /** A u64 that must be a safe integer: an extent, length or offset. */
  size(what: string): number {
    const start = this.take(8, what);
    const wide = this.view.getBigUint64(start, true);
    if (wide > BigInt(Number.MAX_SAFE_INTEGER)) {
      throw fileError(`${this.label}: expected ${what} below 2^53 at offset ${start}, got ${wide}`);
    }
    return Number(wide);
  }

  /** A number of things that take at least `minBytes` each, so a corrupt one is caught at once. */
  count(what: string, minBytes: number): number {
    const start = this.offset;
    const count = this.size(what);
    if (count * minBytes > this.data.byteLength - start) {
      throw fileError(
        `${this.label}: expected a ${what} that fits the file at offset ${start}, got ${count} ` +
          "(truncated or corrupt)",
      );
    }
    return count;
  }

  string(what: string): string {
    const raw = this.bytes(this.size(`length of ${what}`), what);
    try {
      return new TextDecoder("utf-8", { fatal: true, ignoreBOM: true }).decode(raw);
    } catch (cause) {
      throw fileError(`${this.label}: expected UTF-8 for ${what}, got other bytes`, { cause });
    }
  }

  /** A metadata value of the file's type number `type`. */
  value(type: number, what: string, depth: number): GgufValue {
    const { view } = this;
    switch (type) {
      case 0:
        return view.getUint8(this.take(1, what));
      case 1:
        return view.getInt8(this.take(1, what));
      case 2:
        return view.getUint16(this.take(2, what), true);
      case 3:
        return view.getInt16(this.take(2, what), true);
      case 4:
        return this.u32(what);
      case 5:
        return view.getInt32(this.take(4, what), true);
      case 6:
        return view.getFloat32(this.take(4, what), true);
      case 7:
        return view.getUint8(this.take(1, what)) !== 0;
      case 8:
        return this.string(what);
      case 9:
        return this.array(what, depth);
      case 10:
        return narrow(view.getBigUint64(this.take(8, what), true));
      case 11:
        return narrow(view.getBigInt64(this.take(8, what), true));
      case 12:
        return view.getFloat64(this.take(8, what), true);
      default:
        throw fileError(
          `${this.label}: expected a type number of 0 to 12 for ${what}, got ${type}`,
        );
    }
  }

  private array(what: string, depth: number): GgufValue[] {
    if (depth >= kMaxArrayDepth) {
      throw fileError(`${this.label}: expected at most ${kMaxArrayDepth} nested arrays in ${what}`);
    }
    const type = this.u32(`element type of ${what}`);
    const length = this.count(`length of ${what}`, 1);
    return Array.from({ length }, () => this.value(type, what, depth + 1));
  }
}

function narrow(wide: bigint): number | bigint {
  const value = Number(wide);
  return Number.isSafeInteger(value) ? value : wide;
}
