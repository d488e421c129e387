/** append_kv: new keys and values into raw runs. */
import { type AsyncOptions, runJob } from "../jobs.js";
import { native } from "../native.js";
import type { Tensor } from "../tensor.js";
import type { Rope, Run } from "./types.js";
/** One KV head's piece of an append. */
export interface AppendItem {
  /** `[tokens, headDim]`, f32, f16 or bf16, any stride between rows. */
  readonly k: Tensor;
  /** As `k`. */
  readonly v: Tensor;
  /** Logical position of the first row; the others follow. */
  readonly firstPosition: number;
  /** A raw run with room for the rows; its `slots` is not read. */
  readonly dst: Run;
  /** Slot of the first row; default 0. */
  readonly dstSlot?: number | undefined;
  /** `[tokens]` f32 out: norms of the keys as stored. */
  readonly keyNorms?: Tensor | undefined;
}

/** Parameters of {@link appendKv}. */
export interface AppendKvParams {
  /** Pieces that do not overlap. */
  readonly items: readonly AppendItem[];
  /** Keys are turned by `rope` before they are stored; default false. */
  readonly rotate?: boolean | undefined;
  readonly rope?: Rope | undefined;
}

/**
 * Copies new rows into raw runs, converting their dtype, and writes their positions. A mask of the run gets all
 * bits, a beta 0.
 *
 * @throws {SpindleKVError} ERR_SPINDLEKV_ARGUMENT when a tensor's dtype, shape or strides or an option is wrong,
 *   ERR_SPINDLEKV_UNSUPPORTED when the backend has no kernel for it, ERR_SPINDLEKV_WRONG_DEVICE when the tensors
 *   are not on one device, ERR_SPINDLEKV_DISPOSED when one of them or the device is disposed,
 *   ERR_SPINDLEKV_OUT_OF_MEMORY when there is no room for the workspace
 * @example
 * ```ts
 * appendKv({ items: [{ k, v, firstPosition: 0, dst: { codec: "raw", k: keys, v: values, positions } }] });
 * ```
 */
export function appendKv(params: AppendKvParams): void {
  native().appendKv(params);
}

/**
 * {@link appendKv} off the event loop; resolves when the device is done. Argument errors reject.
 *
 * @throws {SpindleKVError} as {@link appendKv}, and ERR_SPINDLEKV_ABORTED when `options.signal` aborted it: what was
 *   written until then means nothing
 */
export function appendKvAsync(params: AppendKvParams, options?: AsyncOptions): Promise<void> {
  return runJob(options, (token) => native().appendKvAsync(params, token));
}
