/** Tensors: typed, strided views of device memory. */
import type { Device } from "./device.js";
import { argumentError } from "./errors.js";
import { stopWatching, watchForLeak } from "./leaks.js";
import { native, type TensorData } from "./native.js";
import { toTyped } from "./tensor-data.js";

export type { TensorData } from "./native.js";

/** Element types. Keys, values and queries are `f32`, `f16` or `bf16`. */
export type DType = "f32" | "f16" | "bf16" | "i32" | "u16" | "u8" | "u64";

const elementBytes: Record<DType, number> = {
  f32: 4,
  f16: 2,
  bf16: 2,
  i32: 4,
  u16: 2,
  u8: 1,
  u64: 8,
};

/** Which part of a tensor a view shows. */
export interface ViewOptions {
  /** Elements from the source's first element; default 0. */
  readonly offset?: number;
  /** Sizes of the axes; default those of the source. */
  readonly shape?: readonly number[];
  /** Elements between neighbours on each axis, >= 0; default without gaps (or the source's, without shape). */
  readonly strides?: readonly number[];
}

/** What `read()` gives for a dtype. */
export type DataOf<T extends DType> = T extends "f32" | "f16" | "bf16"
  ? Float32Array
  : T extends "i32"
    ? Int32Array
    : T extends "u16"
      ? Uint16Array
      : T extends "u8"
        ? Uint8Array
        : BigUint64Array;

type Source =
  | { readonly kind: "new"; readonly data: TensorData | undefined }
  | { readonly kind: "empty" }
  | {
      readonly kind: "view";
      readonly of: Tensor;
      readonly offset: number;
      readonly strides: readonly number[];
    };

function denseStrides(shape: readonly number[]): number[] {
  const strides = new Array<number>(shape.length);
  let stride = 1;
  for (let axis = shape.length - 1; axis >= 0; axis--) {
    strides[axis] = stride;
    stride *= Math.max(shape[axis], 1);
  }
  return strides;
}

function checkSizes(op: string, param: string, sizes: readonly number[]): readonly number[] {
  const isList = Array.isArray(sizes) && sizes.every((n) => Number.isSafeInteger(n) && n >= 0);
  if (!isList) throw argumentError(op, "an array of integers >= 0", param, sizes);
  return Object.freeze([...sizes]);
}

function checkDtype(op: string, dtype: DType): void {
  if (!Object.hasOwn(elementBytes, dtype)) {
    throw argumentError(op, "f32, f16, bf16, i32, u16, u8 or u64", "dtype", dtype);
  }
}

const product = (sizes: readonly number[]) => sizes.reduce((total, size) => total * size, 1);

/**
 * Device memory with a dtype and a shape. Freed by `dispose()` or `using`; views and queued calls keep the
 * memory alive as long as they need it.
 *
 * @example
 * ```ts
 * import { openDevice, Tensor } from "spindlekv";
 *
 * using device = await openDevice("cpu");
 * using t = Tensor.from(device, "f16", [2, 3], [1, 2, 3, 4, 5, 6]);
 * const lastColumn = t.view({ offset: 2, shape: [2], strides: [3] });
 * console.log(await lastColumn.read()); // Float32Array [3, 6]
 * ```
 */
export class Tensor<T extends DType = DType> {
  readonly device: Device;
  readonly dtype: T;
  readonly shape: readonly number[];
  /** Elements between neighbours on each axis. */
  readonly strides: readonly number[];
  #isDisposed = false;
  /** What native code knows the tensor by. */
  readonly #handle: number;

  private constructor(device: Device, dtype: T, shape: readonly number[], source: Source) {
    this.device = device;
    this.dtype = dtype;
    this.shape = shape;
    if (source.kind === "view") {
      this.strides = source.strides;
      this.#handle = native().viewTensor(this, source.of, {
        offset: source.offset,
        shape,
        strides: source.strides,
      });
      return;
    }
    this.strides = Object.freeze(denseStrides(shape));
    const isEmpty = source.kind === "empty";
    const options = { dtype, shape, cleared: !isEmpty };
    this.#handle = native().createTensor(this, device, options, isEmpty ? undefined : source.data);
    watchForLeak(this, "Tensor");
  }

  /**
   * A new tensor of zeros.
   *
   * @param device where it lives
   * @param dtype element type
   * @param shape sizes of the axes, each >= 0; `[]` is a single element
   * @returns the tensor; the caller disposes it
   * @throws {SpindleKVError} ERR_SPINDLEKV_ARGUMENT for a wrong argument,
   *   ERR_SPINDLEKV_OUT_OF_MEMORY when there is no memory, ERR_SPINDLEKV_DISPOSED when the device is disposed
   */
  static zeros<T extends DType>(device: Device, dtype: T, shape: readonly number[]): Tensor<T> {
    checkDtype("Tensor.zeros", dtype);
    const sizes = checkSizes("Tensor.zeros", "shape", shape);
    return new Tensor(device, dtype, sizes, { kind: "new", data: undefined });
  }

  /**
   * A new tensor with a copy of `data`.
   *
   * @param data as many elements as the shape has, in row-major order. The dtype's typed array or an
   *   array of numbers (u64: of bigints); f16 and bf16 take floats, rounded to nearest even, or a Uint16Array
   *   of raw bits
   * @returns the tensor; the caller disposes it
   * @throws {SpindleKVError} ERR_SPINDLEKV_ARGUMENT for a wrong argument,
   *   ERR_SPINDLEKV_OUT_OF_MEMORY when there is no memory, ERR_SPINDLEKV_DISPOSED when the device is disposed
   */
  static from<T extends DType>(
    device: Device,
    dtype: T,
    shape: readonly number[],
    data: TensorData | readonly number[] | readonly bigint[],
  ): Tensor<T> {
    checkDtype("Tensor.from", dtype);
    const sizes = checkSizes("Tensor.from", "shape", shape);
    const typed = toTyped("Tensor.from", dtype, data);
    return new Tensor(device, dtype, sizes, { kind: "new", data: typed });
  }

  /**
   * A new tensor whose elements are whatever its memory held: for what an op writes as a whole, where zeros would be
   * written for nothing, and on the JavaScript thread.
   *
   * @internal
   */
  static empty<T extends DType>(device: Device, dtype: T, shape: readonly number[]): Tensor<T> {
    return new Tensor(device, dtype, checkSizes("Tensor.empty", "shape", shape), { kind: "empty" });
  }

  /**
   * The number that native code knows a tensor by; -1 for anything else.
   *
   * @internal
   */
  static handleOf(value: unknown): number {
    return typeof value === "object" && value !== null && #handle in value
      ? (value as Tensor).#handle
      : -1;
  }

  /** Bytes of the elements, without gaps between strided rows. */
  get sizeBytes(): number {
    return product(this.shape) * elementBytes[this.dtype];
  }

  /** Whether {@link dispose} was called on this tensor. */
  get disposed(): boolean {
    return this.#isDisposed;
  }

  /**
   * Address of the first element in the device's memory, for native peers; 0 for a tensor without elements.
   * Valid while the tensor is not disposed.
   *
   * @throws {SpindleKVError} ERR_SPINDLEKV_DISPOSED after dispose()
   */
  get pointer(): bigint {
    return native().tensorPointer(this);
  }

  /**
   * A tensor that shares this one's memory and keeps it alive.
   *
   * @param options see {@link ViewOptions}; every element must lie inside this tensor's span
   * @throws {SpindleKVError} ERR_SPINDLEKV_ARGUMENT when it does not, ERR_SPINDLEKV_DISPOSED after dispose()
   */
  view(options: ViewOptions = {}): Tensor<T> {
    const { offset = 0 } = options;
    const shape = checkSizes("view", "shape", options.shape ?? this.shape);
    const strides =
      options.strides ?? (options.shape === undefined ? this.strides : this.#regularStrides(shape));
    return new Tensor(this.device, this.dtype, shape, {
      kind: "view",
      of: this,
      offset,
      strides: checkSizes("view", "strides", strides),
    });
  }

  /** Strides of a new shape over a tensor without gaps. */
  #regularStrides(shape: readonly number[]): number[] {
    const dense = denseStrides(this.shape);
    const hasGaps = this.shape.some((size, axis) => size > 1 && this.strides[axis] !== dense[axis]);
    if (hasGaps) {
      throw argumentError(
        "view",
        "strides (the tensor has gaps, so a shape alone says too little)",
        "strides",
        undefined,
      );
    }
    return denseStrides(shape);
  }

  /**
   * The elements in row-major order of the logical shape, after all calls made before. f16 and bf16 become f32.
   * Copied off the event loop, except up to 256 KiB of a CPU tensor while no promise of the device is pending.
   *
   * @throws {SpindleKVError} ERR_SPINDLEKV_DISPOSED after dispose()
   */
  async read(): Promise<DataOf<T>> {
    return (await native().readTensor(this, false)) as DataOf<T>;
  }

  /**
   * The raw bits of a float tensor: Uint16Array for f16 and bf16, Uint32Array for f32.
   *
   * @throws {SpindleKVError} ERR_SPINDLEKV_ARGUMENT for an integer dtype, ERR_SPINDLEKV_DISPOSED after dispose()
   */
  async readBits(): Promise<Uint32Array | Uint16Array> {
    if (this.dtype !== "f32" && this.dtype !== "f16" && this.dtype !== "bf16") {
      throw argumentError("readBits", "dtype f32, f16 or bf16", "tensor", this.dtype);
    }
    return (await native().readTensor(this, true)) as Uint32Array | Uint16Array;
  }

  /**
   * Like `read()`, but waits on the spot: for enqueued calls, not for those whose promise is pending.
   *
   * @throws {SpindleKVError} ERR_SPINDLEKV_DISPOSED after dispose()
   */
  readSync(): DataOf<T> {
    return native().readTensorNow(this, false) as DataOf<T>;
  }

  /**
   * Overwrites all elements (nothing between strided rows); `data` as in {@link Tensor.from}.
   *
   * @throws {SpindleKVError} ERR_SPINDLEKV_ARGUMENT for data of another type or length,
   *   ERR_SPINDLEKV_DISPOSED after dispose()
   */
  write(data: TensorData | readonly number[] | readonly bigint[]): void {
    native().writeTensor(this, toTyped("write", this.dtype, data));
  }

  /** Lets go of the memory. Idempotent. */
  dispose(): void {
    if (this.#isDisposed) return;
    this.#isDisposed = true;
    stopWatching(this);
    native().disposeTensor(this);
  }

  /** Same as {@link dispose}. */
  [Symbol.dispose](): void {
    this.dispose();
  }
}
