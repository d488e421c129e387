/** Devices: where tensors live and ops run. */
import { CapturedStep } from "./captured-step.js";
import { argumentError, SpindleKVError } from "./errors.js";
import { stopWatching, watchForLeak } from "./leaks.js";
import { type NativeDeviceInfo, native, type OpName } from "./native.js";

export type { OpName } from "./native.js";

/** The backends. `"simt"` runs the CUDA sources on the host and exists for tests only. */
export type DeviceKind = "cpu" | "cuda" | "simt";

/** What {@link openDevice} opens: a backend, and for CUDA which device. */
export type DeviceName = DeviceKind | `cuda:${number}`;

/** Options of {@link openDevice}. */
export interface OpenDeviceOptions {
  /** CPU worker threads; 0 (default) is one per core. Ignored by other backends. */
  readonly threads?: number;
}

/** What a device says about itself. */
export interface DeviceInfo extends NativeDeviceInfo {
  readonly kind: DeviceKind;
  readonly ordinal: number;
  /** Why CUDA was not taken, when `openDevice()` without a name fell back to the CPU. */
  readonly cudaUnavailable?: string;
}

/** Native allocations that are alive. */
export interface AllocationUsage {
  readonly count: number;
  readonly bytes: number;
}

const openers = new WeakSet<object>();
const reasonsAgainstCuda = new WeakMap<Device, string>();

/**
 * An open device. Made by {@link openDevice}; freed by `dispose()` or `using`.
 *
 * Tensors keep their memory until they are disposed themselves, but can do nothing more once their
 * device is disposed.
 */
export class Device {
  /** The backend that runs the ops. */
  readonly kind: DeviceKind;
  /** Which device of the backend. */
  readonly ordinal: number;
  #isDisposed = false;

  /** @internal Use {@link openDevice}. */
  constructor(opener: object, kind: DeviceKind, ordinal: number) {
    if (!openers.has(opener)) {
      throw argumentError("Device", "a call of openDevice()", "constructor", "new Device()");
    }
    this.kind = kind;
    this.ordinal = ordinal;
  }

  /** The name that opens this device: `"cpu"`, `"simt"`, `"cuda:0"`. */
  get name(): DeviceName {
    return this.kind === "cuda" ? `cuda:${this.ordinal}` : this.kind;
  }

  /** Whether {@link dispose} was called. */
  get disposed(): boolean {
    return this.#isDisposed;
  }

  /**
   * Model, memory in bytes (0 when unknown), threads (multiprocessors on CUDA).
   *
   * @throws {SpindleKVError} ERR_SPINDLEKV_DISPOSED after dispose()
   */
  info(): DeviceInfo {
    const cudaUnavailable = reasonsAgainstCuda.get(this);
    return {
      ...native().describeDevice(this),
      kind: this.kind,
      ordinal: this.ordinal,
      ...(cudaUnavailable === undefined ? {} : { cudaUnavailable }),
    };
  }

  /**
   * Whether the backend runs an op.
   *
   * @param op name of the op, such as `"attend"`
   * @param dtype of keys and values; default `"f32"`
   * @param headDim elements of a row; leave it out for ops that have none
   * @throws {SpindleKVError} ERR_SPINDLEKV_ARGUMENT for a name that is no op or no float dtype,
   *   ERR_SPINDLEKV_DISPOSED after dispose()
   */
  supports(op: OpName, dtype?: "f32" | "f16" | "bf16", headDim?: number): boolean {
    return native().deviceSupports(this, op, dtype, headDim);
  }

  /**
   * Resolves when everything queued on the device before has run.
   *
   * @throws {SpindleKVError} ERR_SPINDLEKV_CUDA or ERR_SPINDLEKV_DEVICE_LOST when some of it failed,
   *   ERR_SPINDLEKV_DISPOSED after dispose()
   */
  async synchronize(): Promise<void> {
    await native().synchronize(this);
  }

  /**
   * Records the ops that `body` calls on this device, without running them, to replay them as one: a CUDA graph where
   * the backend has graphs, else one op after the other.
   *
   * Recorded are the synchronous ops (`attend(params)`, `selectTopk(params)`, ...) on tensors that exist. Everything
   * else that would reach the device, such as calls of caches, promises, new tensors and reading or writing them, throws, and
   * so does the capture even if `body` goes on. After a failure nothing is left of the capture and the device is as it was.
   *
   * @param body called once, at once; not asynchronous
   * @returns the step; the caller disposes it
   * @throws {SpindleKVError} ERR_SPINDLEKV_UNSUPPORTED for work that cannot be replayed or a capture inside of another,
   *   ERR_SPINDLEKV_ARGUMENT when `body` is no function or returns a promise, ERR_SPINDLEKV_DISPOSED after dispose(),
   *   ERR_SPINDLEKV_OUT_OF_MEMORY when there is no room for the workspace, ERR_SPINDLEKV_CUDA when the runtime refuses
   * @example
   * ```ts
   * using step = device.capture(() => {
   *   reduceGroup({ in: scores, out: grouped, group: 4, kind: "mean" });
   *   selectTopk({ scores: grouped, lengths: 1000, k: 200, indices, counts });
   * });
   * scores.write(fresh);
   * step.replay();
   * ```
   */
  capture(body: () => void): CapturedStep {
    if (typeof body !== "function") {
      throw argumentError("capture", "a function", "body", body);
    }
    native().beginCapture(this);
    try {
      const result: unknown = body();
      if (result instanceof Promise) {
        result.catch(() => undefined); // the error below stands for it
        throw argumentError("capture", "a function that is not asynchronous", "body", "a promise");
      }
    } catch (error) {
      native().abandonCapture(this);
      throw error;
    }
    return new CapturedStep(this);
  }

  /**
   * For tests: lets the n-th allocation from now fail once with ERR_SPINDLEKV_OUT_OF_MEMORY.
   *
   * @param n 1 is the next allocation; 0 switches it off
   */
  failAllocation(n: number): void {
    native().failAllocation(this, n);
  }

  /** Live native allocations of this device: tensors, pages and workspaces. Works after dispose() too. */
  allocations(): AllocationUsage {
    return native().allocations(this);
  }

  /** Closes the device once its queued jobs have run. Idempotent. */
  dispose(): void {
    if (this.#isDisposed) return;
    this.#isDisposed = true;
    stopWatching(this);
    native().disposeDevice(this);
  }

  /** Same as {@link dispose}. */
  [Symbol.dispose](): void {
    this.dispose();
  }
}

interface ParsedName {
  readonly kind: DeviceKind;
  readonly ordinal: number;
}

function parseName(name: string): ParsedName {
  const match = /^(cpu|simt|cuda)(?::(\d{1,4}))?$/.exec(name);
  const isIndexed = match?.[2] !== undefined;
  if (match === null || (isIndexed && match[1] !== "cuda")) {
    throw argumentError("openDevice", '"cpu", "cuda", "cuda:<n>" or "simt"', "name", name);
  }
  return { kind: match[1] as DeviceKind, ordinal: Number(match[2] ?? 0) };
}

async function open({ kind, ordinal }: ParsedName, threads: number): Promise<Device> {
  const opener = {};
  openers.add(opener);
  const device = new Device(opener, kind, ordinal);
  await native().openDevice(device, { kind, ordinal, threads });
  watchForLeak(device, "Device");
  return device;
}

/**
 * Opens a device.
 *
 * @param name `"cpu"`, `"cuda"` (the first), `"cuda:1"`; left out: CUDA when usable, else the CPU
 * @param options see {@link OpenDeviceOptions}
 * @returns the device; the caller disposes it
 * @throws {SpindleKVError} ERR_SPINDLEKV_ARGUMENT for another name,
 *   ERR_SPINDLEKV_NO_DEVICE when the device is not there, with the reason,
 *   ERR_SPINDLEKV_NO_BINARY when the addon or the backend cannot be loaded
 * @example
 * ```ts
 * import { openDevice } from "spindlekv";
 *
 * using device = await openDevice("cpu");
 * console.log(device.info().name);
 * ```
 */
export async function openDevice(
  name?: DeviceName,
  options: OpenDeviceOptions = {},
): Promise<Device> {
  const { threads = 0 } = options;
  if (!Number.isInteger(threads) || threads < 0 || threads > 4096) {
    throw argumentError("openDevice", "an integer in [0, 4096]", "threads", threads);
  }
  if (name !== undefined) {
    if (typeof name !== "string") {
      throw argumentError("openDevice", "a device name", "name", name);
    }
    return open(parseName(name), threads);
  }
  try {
    return await open({ kind: "cuda", ordinal: 0 }, threads);
  } catch (error) {
    const isAbsent =
      error instanceof SpindleKVError &&
      (error.code === "ERR_SPINDLEKV_NO_DEVICE" || error.code === "ERR_SPINDLEKV_NO_BINARY");
    if (!isAbsent) throw error;
    const device = await open({ kind: "cpu", ordinal: 0 }, threads);
    reasonsAgainstCuda.set(device, error.message);
    return device;
  }
}
