/**
 * Reads safetensors files: 8 bytes of header length (little endian), a JSON header, then the tensors' bytes.
 *
 * Nothing of the file is trusted: every failure is an ERR_SPINDLEKV_FILE that says what is wrong. Tensors are read
 * one by one when asked for, so a dump may be larger than memory.
 *
 * @source the format's description at github.com/huggingface/safetensors
 */
import { type FileHandle, open } from "node:fs/promises";
import { describeValue, type SpindleKVError, spindleError } from "../errors.js";

/** Bytes of one element of every dtype of the format. */
const elementBytes = {
  BOOL: 1,
  U8: 1,
  I8: 1,
  F8_E4M3: 1,
  F8_E5M2: 1,
  U16: 2,
  I16: 2,
  F16: 2,
  BF16: 2,
  U32: 4,
  I32: 4,
  F32: 4,
  U64: 8,
  I64: 8,
  F64: 8,
} as const;

/** A dtype of the format. */
export type FileDType = keyof typeof elementBytes;

/** One tensor of the header. */
export interface TensorEntry {
  readonly dtype: FileDType;
  readonly shape: readonly number[];
  /** First byte in the file. */
  readonly offset: number;
  readonly bytes: number;
}

const kLengthBytes = 8;
/** The format's own limit. */
const kMaxHeaderBytes = 100_000_000;
/** One read of the file system takes less than 2^31 bytes. */
const kMaxReadBytes = 2 ** 30;

function fileError(expected: string, param: string, actual: string, cause?: unknown) {
  const message = `expected ${expected} for ${param}, got ${actual}`;
  return spindleError("ERR_SPINDLEKV_FILE", "readSafetensors", message, cause);
}

/** An open file with a checked header. */
export class SafetensorsFile implements AsyncDisposable {
  readonly tensors: ReadonlyMap<string, TensorEntry>;
  readonly metadata: ReadonlyMap<string, string>;
  readonly #handle: FileHandle;

  /** @internal Use {@link openSafetensors}. */
  constructor(handle: FileHandle, header: Header) {
    this.#handle = handle;
    this.tensors = header.tensors;
    this.metadata = header.metadata;
  }

  /**
   * The bytes of a tensor, as they are stored.
   *
   * @throws {SpindleKVError} ERR_SPINDLEKV_FILE when there is none of that name or the file cannot be read
   */
  async read(name: string): Promise<ArrayBuffer> {
    const entry = this.tensors.get(name);
    if (entry === undefined) throw fileError("a tensor", name, "none");
    const bytes = await readBytes(this.#handle, entry.offset, entry.bytes, name);
    return bytes.buffer;
  }

  async [Symbol.asyncDispose](): Promise<void> {
    await this.#handle.close();
  }
}

/**
 * Opens a file and checks its header.
 *
 * @returns the file; the caller disposes it
 * @throws {SpindleKVError} ERR_SPINDLEKV_FILE when it cannot be read or is not what the format says
 */
export async function openSafetensors(path: string): Promise<SafetensorsFile> {
  let handle: FileHandle;
  try {
    handle = await open(path, "r");
  } catch (error) {
    throw unreadable(path, error);
  }
  try {
    return new SafetensorsFile(handle, await readHeader(handle, path));
  } catch (error) {
    await handle.close();
    throw error;
  }
}

function unreadable(path: string, error: unknown): SpindleKVError {
  const reason = error instanceof Error ? error.message : String(error);
  return fileError("a readable file", "input", `${describeValue(path)}: ${reason}`, error);
}

async function readBytes(handle: FileHandle, offset: number, length: number, what: string) {
  const bytes = new Uint8Array(length);
  let done = 0;
  while (done < length) {
    let count: number;
    try {
      const wanted = Math.min(length - done, kMaxReadBytes);
      ({ bytesRead: count } = await handle.read(bytes, done, wanted, offset + done));
    } catch (error) {
      throw unreadable(what, error);
    }
    if (count === 0) throw fileError(`${length} bytes`, "input", `${done} before the end of file`);
    done += count;
  }
  return bytes;
}

interface Header {
  readonly tensors: ReadonlyMap<string, TensorEntry>;
  readonly metadata: ReadonlyMap<string, string>;
}

async function readHeader(handle: FileHandle, path: string): Promise<Header> {
  const stats = await handle.stat();
  if (!stats.isFile()) throw fileError("a file", "input", describeValue(path));
  const { size } = stats;
  if (size < kLengthBytes) {
    throw fileError(`at least ${kLengthBytes} bytes of safetensors`, "input", `${size}`);
  }
  const start = await readBytes(handle, 0, kLengthBytes, path);
  const length = new DataView(start.buffer).getBigUint64(0, true);
  if (length > BigInt(kMaxHeaderBytes)) {
    const limit = `a safetensors header of at most ${kMaxHeaderBytes} bytes`;
    throw fileError(limit, "input", `a header length of ${length}`);
  }
  const dataStart = kLengthBytes + Number(length);
  if (dataStart > size) {
    throw fileError(`a header of ${length} bytes`, "input", `a file of ${size} bytes (truncated?)`);
  }
  const text = await readBytes(handle, kLengthBytes, Number(length), path);
  return checkHeader(parseHeader(text), dataStart, size);
}

function parseHeader(bytes: Uint8Array): object {
  let header: unknown;
  try {
    header = JSON.parse(new TextDecoder("utf-8", { fatal: true }).decode(bytes));
  } catch (error) {
    const reason = error instanceof Error ? error.message : String(error);
    throw fileError("a JSON header", "input", `other bytes (${reason})`, error);
  }
  if (typeof header !== "object" || header === null || Array.isArray(header)) {
    throw fileError("a JSON object as header", "input", describeValue(header));
  }
  return header;
}

function checkHeader(header: object, dataStart: number, size: number): Header {
  const tensors = new Map<string, TensorEntry>();
  let metadata: ReadonlyMap<string, string> = new Map();
  for (const [name, value] of Object.entries(header)) {
    if (name === "__metadata__") metadata = checkMetadata(value);
    else tensors.set(name, checkEntry(name, value, dataStart, size));
  }
  checkLayout(tensors, dataStart, size);
  return { tensors, metadata };
}

function checkMetadata(value: unknown): ReadonlyMap<string, string> {
  const entries = typeof value === "object" && value !== null ? Object.entries(value) : undefined;
  if (entries === undefined || !entries.every((pair) => typeof pair[1] === "string")) {
    throw fileError("an object of strings", "__metadata__", describeValue(value));
  }
  return new Map(entries as [string, string][]);
}

const isCount = (value: unknown): value is number =>
  typeof value === "number" && Number.isSafeInteger(value) && value >= 0;

function checkEntry(name: string, value: unknown, dataStart: number, size: number): TensorEntry {
  // Names come from the file and may hold anything: shown quoted, unlike names that are asked for.
  const about = (what: string) => `${what} of tensor ${describeValue(name)}`;
  const { dtype, shape, data_offsets: offsets } = (value ?? {}) as Record<string, unknown>;
  if (typeof dtype !== "string" || !Object.hasOwn(elementBytes, dtype)) {
    const known = Object.keys(elementBytes).join(", ");
    throw fileError(`one of ${known}`, about("dtype"), describeValue(dtype));
  }
  if (!Array.isArray(shape) || !shape.every(isCount)) {
    throw fileError("an array of sizes", about("shape"), describeValue(shape));
  }
  const isRange = Array.isArray(offsets) && offsets.length === 2 && offsets.every(isCount);
  if (!isRange || offsets[0] > offsets[1]) {
    throw fileError("two ascending offsets", about("data_offsets"), describeValue(offsets));
  }
  const [begin, end] = offsets as [number, number];
  const dataBytes = size - dataStart;
  if (end > dataBytes) {
    const expected = `offsets within the ${dataBytes} bytes of data`;
    throw fileError(expected, about("data_offsets"), `${describeValue(offsets)} (truncated?)`);
  }
  const bytes = shape.reduce((product, n) => product * n, elementBytes[dtype as FileDType]);
  if (bytes !== end - begin) {
    const expected = `${bytes} bytes (${dtype} ${describeValue(shape)})`;
    throw fileError(expected, about("data_offsets"), `${end - begin}`);
  }
  return { dtype: dtype as FileDType, shape, offset: dataStart + begin, bytes };
}

/** The format allows neither overlaps nor holes: the tensors tile the data. */
function checkLayout(tensors: ReadonlyMap<string, TensorEntry>, dataStart: number, size: number) {
  const inOrder = [...tensors].sort(
    ([, a], [, b]) => a.offset - b.offset || a.offset + a.bytes - (b.offset + b.bytes),
  );
  let end = dataStart;
  for (const [name, entry] of inOrder) {
    if (entry.offset !== end) {
      const kind = entry.offset < end ? "an overlap" : "a hole";
      throw fileError(
        "tensors one after the other",
        "data_offsets",
        `${kind} at ${describeValue(name)}`,
      );
    }
    end += entry.bytes;
  }
  if (end !== size) {
    throw fileError(`${end} bytes`, "input", `${size - end} more after the last tensor`);
  }
}
