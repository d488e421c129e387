/** The addon: the only file that loads a `.node` file. Everything it exports is typed here. */
import { existsSync, readFileSync } from "node:fs";
import { createRequire } from "node:module";
import { dirname, join } from "node:path";
import { fileURLToPath } from "node:url";
import { createNativeError, SpindleKVError } from "./errors.js";
import type { CancelToken } from "./jobs.js";

/** Arrays that tensors are read into and written from. */
export type TensorData =
  | Float32Array
  | Int32Array
  | Uint32Array
  | Uint16Array
  | Uint8Array
  | BigUint64Array;

/** What the addon knows of a device. */
export interface NativeDeviceInfo {
  readonly name: string;
  readonly detail: string;
  readonly memoryTotal: number;
  readonly memoryFree: number;
  readonly threads: number;
}

type OpNames =
  | "appendKv"
  | "attend"
  | "attendBatch"
  | "windowScores"
  | "poolScores"
  | "reduceGroup"
  | "selectTopk"
  | "compact"
  | "rope"
  | "buildCodebook"
  | "nearestCodeword"
  | "reduceByLabel"
  | "keyStats"
  | "rowCosine";

/** Names of the ops. */
export type OpName = OpNames;

type OpFunctions = { readonly [Op in OpNames]: (params: object) => void } & {
  readonly [Op in OpNames as `${Op}Async`]: (
    params: object,
    token: CancelToken | undefined,
  ) => Promise<void>;
};

/** The addon's functions; binding/ defines them. Handles are the instances of lib's classes themselves. */
export interface NativeAddon extends OpFunctions {
  initialize(options: { directory: string; createError: typeof createNativeError }): void;
  /** The plain cases of `attend`; whether this is one. */
  attendByNumbers(numbers: Float64Array, count: number): boolean;
  openDevice(
    device: object,
    options: { kind: string; ordinal: number; threads: number },
  ): Promise<void>;
  disposeDevice(device: object): void;
  describeDevice(device: object): NativeDeviceInfo;
  deviceSupports(device: object, op: string, dtype?: string, headDim?: number): boolean;
  synchronize(device: object): Promise<void>;
  failAllocation(device: object, n: number): void;
  allocations(device: object): { count: number; bytes: number };
  createTensor(
    tensor: object,
    device: object,
    options: { dtype: string; shape: readonly number[]; cleared: boolean },
    data?: TensorData,
  ): number;
  viewTensor(
    view: object,
    source: object,
    options: { offset: number; shape: readonly number[]; strides: readonly number[] },
  ): number;
  disposeTensor(tensor: object): void;
  readTensor(tensor: object, raw: boolean): Promise<TensorData>;
  readTensorNow(tensor: object, raw: boolean): TensorData;
  writeTensor(tensor: object, data: TensorData): void;
  tensorPointer(tensor: object): bigint;
  attachCancelToken(token: object): void;
  cancel(token: object): void;
  beginCapture(device: object): void;
  abandonCapture(device: object): void;
  endCapture(device: object, step: object): void;
  replay(step: object): void;
  replayAsync(step: object, token: CancelToken | undefined): Promise<void>;
  disposeCapturedStep(step: object): void;
  makeRopeAngles(options: object): Float32Array;
}

const kPackageName = "spindlekv";

let addon: NativeAddon | undefined;

/**
 * The addon, loaded at the first call.
 *
 * @throws {SpindleKVError} ERR_SPINDLEKV_NO_BINARY when it cannot be loaded, with what was tried and what to do
 */
export function native(): NativeAddon {
  addon ??= load();
  return addon;
}

/** The package's folder: the nearest one above this file whose package.json carries its name. */
function packageFolder(): string {
  let folder = dirname(fileURLToPath(import.meta.url));
  for (;;) {
    const manifest = join(folder, "package.json");
    if (existsSync(manifest)) {
      const { name } = JSON.parse(readFileSync(manifest, "utf8")) as { name?: string };
      if (name === kPackageName) return folder;
    }
    const parent = dirname(folder);
    if (parent === folder) throw noBinary(`no package.json of ${kPackageName} above it`, undefined);
    folder = parent;
  }
}

function noBinary(actual: string, cause: unknown): SpindleKVError {
  const advice = [
    `1. Installed from npm: there may be no binary for ${process.platform}-${process.arch}; see which are in the package's prebuilds/ folder.`,
    "2. In a clone of the repository: `npm run build` makes one; it needs g++ 12 or newer and cmake.",
    "3. After moving to another operating system, processor or C library: delete node_modules and install again.",
  ];
  return new SpindleKVError({
    code: "ERR_SPINDLEKV_NO_BINARY",
    op: "load",
    message: `load: expected a native addon for platform, got ${actual}\n${advice.join("\n")}`,
    cause,
  });
}

function load(): NativeAddon {
  const folder = packageFolder();
  // Not called `require`: in the CommonJS bundle that name would hide the real one.
  const requireHere = createRequire(import.meta.url);
  let path: string;
  let loaded: NativeAddon;
  try {
    const find = requireHere("node-gyp-build") as { resolve(folder: string): string };
    path = find.resolve(folder);
    loaded = requireHere(path) as NativeAddon;
  } catch (error) {
    throw noBinary(error instanceof Error ? error.message : String(error), error);
  }
  loaded.initialize({ directory: dirname(path), createError: createNativeError });
  return loaded;
}
