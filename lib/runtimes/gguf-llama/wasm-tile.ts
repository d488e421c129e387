/**
 * The inner loop of the matrix product as WebAssembly SIMD, assembled here byte by byte (V8 has no
 * vector arithmetic for JavaScript; one loop does not justify a compiler in the build).
 *
 * tile(x, w, out, length, stride): a tile of R tokens times 8 outputs,
 *   out[r * stride + c] = sum_i x[i * R + r] * w[i * 8 + c],  r < R, c < 8,
 * over float32 in the imported memory; x, w, out and stride are in bytes, length is in elements.
 * Exported for R = 4 (prefill) and R = 1 (decode). The sums stay in 2 R vector registers.
 * Compute bound for R = 4: 64 operations for 6 loads; memory bound (reads w once) for R = 1.
 * Encoding: WebAssembly Core Specification 2.0, chapter 5 (binary format).
 */

/** Outputs per tile: two vectors of four float32. */
export const kTileOutputs = 8;

/** Tokens per tile of `tile4`. */
export const kTileTokens = 4;

type Tile = (x: number, w: number, out: number, length: number, stride: number) => void;

/** The two kernels, bound to a memory. */
export interface TileKernels {
  readonly tile1: Tile;
  readonly tile4: Tile;
}

/** A growable memory in pages of 64 KiB. */
export interface WasmMemory {
  readonly buffer: ArrayBuffer;
  grow(pages: number): number;
}

/** The part of the WebAssembly API used here; TypeScript declares it only together with the DOM. */
interface WasmApi {
  readonly Memory: new (limits: { initial: number }) => WasmMemory;
  readonly Module: new (bytes: Uint8Array) => object;
  readonly Instance: new (module: object, imports: object) => { readonly exports: unknown };
}

const wasm = (globalThis as unknown as { WebAssembly: WasmApi }).WebAssembly;

/** An empty memory of one page. */
export function createMemory(): WasmMemory {
  return new wasm.Memory({ initial: 1 });
}

/** Compiles the kernels against `memory`. */
export function instantiateTiles(memory: WasmMemory): TileKernels {
  const module = new wasm.Module(Uint8Array.from(moduleBytes()));
  return new wasm.Instance(module, { env: { memory } }).exports as TileKernels;
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

const get = (local: number) => [0x20, ...leb(local)];
const set = (local: number) => [0x21, ...leb(local)];
/** i32.const; the values here are below 64, where signed and unsigned LEB128 agree. */
const constant = (value: number) => [0x41, value];
const add = [0x6a];
const subtract = [0x6b];
const isZero = [0x45];
const simd = (opcode: number, ...rest: number[]) => [0xfd, ...leb(opcode), ...rest];
const loadVector = (offset: number) => simd(0x00, 4, ...leb(offset)); // 4, 2: log2 of the alignment
const loadSplat = (offset: number) => simd(0x09, 2, ...leb(offset));
const storeVector = (offset: number) => simd(0x0b, 4, ...leb(offset));
const addVectors = simd(0xe4);
const multiplyVectors = simd(0xe6);

// ---- The kernel --------------------------------------------------------------------------------

/** Parameters 0 to 4, then the vectors. */
const local = { x: 0, w: 1, out: 2, length: 3, stride: 4, w0: 5, w1: 6, splat: 7, sums: 8 };

function tileBody(rows: number): number[] {
  const sum = (row: number, half: number) => local.sums + 2 * row + half;
  const advance = (pointer: number, by: number[]) => [get(pointer), by, add, set(pointer)].flat();
  const multiplyAdd = (row: number, half: number) => {
    const weight = get(half === 0 ? local.w0 : local.w1);
    const product = [...get(local.splat), ...weight, ...multiplyVectors];
    return [...get(sum(row, half)), ...product, ...addVectors, ...set(sum(row, half))];
  };
  const everyRow = Array.from({ length: rows }, (_, row) => row);

  // biome-ignore format: one instruction a line
  const step = [
    ...get(local.w), ...loadVector(0), ...set(local.w0),
    ...get(local.w), ...loadVector(16), ...set(local.w1),
    ...everyRow.flatMap((row) => [
      ...get(local.x), ...loadSplat(4 * row), ...set(local.splat),
      ...multiplyAdd(row, 0), ...multiplyAdd(row, 1),
    ]),
    ...advance(local.x, constant(4 * rows)),
    ...advance(local.w, constant(4 * kTileOutputs)),
    ...get(local.length), ...constant(1), ...subtract, ...set(local.length),
  ];
  // biome-ignore format: one instruction a line
  const loop = [
    0x02, kVoidBlock, 0x03, kVoidBlock, // block loop
    ...get(local.length), ...isZero, 0x0d, 1, // leave the block when no element is left
    ...step,
    0x0c, 0, // again
    0x0b, 0x0b, // end end
  ];
  // biome-ignore format: one instruction a line
  const store = everyRow.flatMap((row) => [
    ...get(local.out), ...get(sum(row, 0)), ...storeVector(0),
    ...get(local.out), ...get(sum(row, 1)), ...storeVector(16),
    ...advance(local.out, get(local.stride)),
  ]);
  const vectors = list([[...leb(3 + 2 * rows), kTypeV128]]);
  return sized([...vectors, ...loop, ...store, 0x0b]);
}

function moduleBytes(): number[] {
  const signature = [0x60, ...list(Array.from({ length: 5 }, () => [kTypeI32])), ...list([])];
  const memoryImport = [...text("env"), ...text("memory"), 0x02, 0x00, ...leb(1)];
  const exported = (name: string, index: number) => [...text(name), 0x00, index];
  const version = [1, 0, 0, 0];
  return [
    ...text("\0asm").slice(1), // without the length
    ...version,
    ...section(1, list([signature])),
    ...section(2, list([memoryImport])),
    ...section(3, list([[0], [0]])), // two functions with signature 0
    ...section(7, list([exported("tile1", 0), exported("tile4", 1)])),
    ...section(10, list([tileBody(1), tileBody(kTileTokens)])),
  ];
}
