/**
 * A loop that does nothing but read memory, as WebAssembly SIMD: V8 has no vector loads for JavaScript, and a
 * benchmark should not need a compiler.
 *
 * read(start, gap, step, count) adds up the 32-bit words of `4 count` lines of 64 bytes: in iteration i the
 * lines at start + i step + {0, 1, 2, 3} gap. One stream is gap 64, step 256; four streams are gap = a quarter
 * of the range, step 64. Bytes: 256 count. 16 loads an iteration into four accumulators, which no first-level
 * cache limits at the speed of memory. Encoding: WebAssembly Core Specification 2.0, chapter 5.
 */

/** Bytes that one iteration reads. */
export const kIterationBytes = 256;

const kLineBytes = 64;
const kVectorBytes = 16;
const kStreams = 4;

/** A memory in pages of 64 KiB; TypeScript declares it only together with the DOM. */
export interface WasmMemory {
  readonly buffer: ArrayBuffer;
}

interface WasmApi {
  readonly Memory: new (limits: { initial: number }) => WasmMemory;
  readonly Module: new (bytes: Uint8Array) => object;
  readonly Instance: new (module: object, imports: object) => { readonly exports: unknown };
}

const wasm = (globalThis as unknown as { WebAssembly: WasmApi }).WebAssembly;

/** Reads `bytes` from `start` on, in one stream or four; returns the sum of the 32-bit words, modulo 2^32. */
export type ReadRange = (start: number, bytes: number, streams: 1 | 4) => number;

/** A memory of at least `bytes`. */
export function createMemory(bytes: number): WasmMemory {
  return new wasm.Memory({ initial: Math.ceil(bytes / 65536) });
}

/** The loop, bound to a memory. Ranges are multiples of 256 bytes. */
export function instantiateRead(memory: WasmMemory): ReadRange {
  const module = new wasm.Module(Uint8Array.from(moduleBytes()));
  const { exports } = new wasm.Instance(module, { env: { memory } });
  const { read } = exports as {
    read(start: number, gap: number, step: number, count: number): number;
  };
  return (start, bytes, streams) => {
    const count = bytes / kIterationBytes;
    const isOne = streams === 1;
    return read(start, isOne ? kLineBytes : bytes / 4, isOne ? kIterationBytes : kLineBytes, count);
  };
}

// ---- Encoding ----------------------------------------------------------------------------------

const kVoidBlock = 0x40;
const kTypeI32 = 0x7f;
const kTypeV128 = 0x7b;

/** Unsigned LEB128. */
function leb(value: number): number[] {
  return value < 0x80 ? [value] : [(value & 0x7f) | 0x80, ...leb(value >>> 7)];
}

const sized = (bytes: number[]) => [...leb(bytes.length), ...bytes];
const list = (items: number[][]) => [...leb(items.length), ...items.flat()];
const text = (name: string) => sized([...name].map((letter) => letter.charCodeAt(0)));
const section = (id: number, content: number[]) => [id, ...sized(content)];

const get = (local: number) => [0x20, local];
const set = (local: number) => [0x21, local];
const one = [0x41, 1];
const add = [0x6a];
const subtract = [0x6b];
const isZero = [0x45];
const simd = (opcode: number, ...rest: number[]) => [0xfd, ...leb(opcode), ...rest];
const loadVector = (offset: number) => simd(0x00, 4, ...leb(offset)); // 4: log2 of the alignment
const addLanes = simd(0xae);
const extractLane = (lane: number) => simd(0x1b, lane);

// ---- The loop ----------------------------------------------------------------------------------

/** Parameters 0 to 3, then the other pointers, then the accumulators. */
const local = { start: 0, gap: 1, step: 2, count: 3, pointers: 4, sums: 7 };
const pointer = (stream: number) => (stream === 0 ? local.start : local.pointers + stream - 1);

function readBody(): number[] {
  const fours = [0, 1, 2, 3];
  // biome-ignore format: one instruction a line
  const separate = fours.slice(1).flatMap((stream) => [
    ...get(pointer(stream - 1)), ...get(local.gap), ...add, ...set(pointer(stream)),
  ]);
  // biome-ignore format: one instruction a line
  const addVector = (stream: number, part: number) => [
    ...get(local.sums + part),
    ...get(pointer(stream)), ...loadVector(part * kVectorBytes), ...addLanes,
    ...set(local.sums + part),
  ];
  // biome-ignore format: one instruction a line
  const step = [
    ...fours.flatMap((stream) => fours.flatMap((part) => addVector(stream, part))),
    ...fours.flatMap((stream) => [
      ...get(pointer(stream)), ...get(local.step), ...add, ...set(pointer(stream)),
    ]),
    ...get(local.count), ...one, ...subtract, ...set(local.count),
  ];
  // biome-ignore format: one instruction a line
  const loop = [
    0x02, kVoidBlock, 0x03, kVoidBlock, // block loop
    ...get(local.count), ...isZero, 0x0d, 1, // leave the block when nothing is left
    ...step,
    0x0c, 0, // again
    0x0b, 0x0b, // end end
  ];
  const total = local.sums;
  // biome-ignore format: one instruction a line
  const sum = [
    ...fours.slice(1).flatMap((part) => [
      ...get(total), ...get(local.sums + part), ...addLanes, ...set(total),
    ]),
    ...fours.flatMap((lane) => [...get(total), ...extractLane(lane), ...(lane > 0 ? add : [])]),
  ];
  const declared = list([
    [kStreams - 1, kTypeI32],
    [4, kTypeV128],
  ]);
  return sized([...declared, ...separate, ...loop, ...sum, 0x0b]);
}

function moduleBytes(): number[] {
  const signature = [
    0x60,
    ...list(Array.from({ length: 4 }, () => [kTypeI32])),
    ...list([[kTypeI32]]),
  ];
  const memoryImport = [...text("env"), ...text("memory"), 0x02, 0x00, ...leb(1)];
  const version = [1, 0, 0, 0];
  return [
    ...text("\0asm").slice(1), // without the length
    ...version,
    ...section(1, list([signature])),
    ...section(2, list([memoryImport])),
    ...section(3, list([[0]])),
    ...section(7, list([[...text("read"), 0x00, 0]])),
    ...section(10, list([readBody()])),
  ];
}
