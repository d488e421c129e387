/** select_topk: which slots stay. */
import { type AsyncOptions, runJob } from "../jobs.js";
import { native } from "../native.js";
import type { Tensor } from "../tensor.js";
/** Parameters of {@link selectTopk}. */
export interface SelectTopkParams {
  /** `[rows, >= length]` f32. */
  readonly scores: Tensor;
  /** Scores of each row, or one number for all. */
  readonly lengths: readonly number[] | Int32Array | number;
  /** How many unprotected slots each row (each set of poolRows rows) keeps, or one number for all. */
  readonly k: readonly number[] | Int32Array | number;
  /** Leading slots that always stay; default 0. */
  readonly sinks?: number | undefined;
  /** Trailing slots that always stay; default 0. */
  readonly recent?: number | undefined;
  /** Rows that share one k; default 1. */
  readonly poolRows?: number | undefined;
  /** With poolRows > 1: slots that each row gets before the rest is shared; default 0. */
  readonly floor?: number | undefined;
  /** Rows whose selections merge into one output row, 1..16; default 1. */
  readonly unionGroup?: number | undefined;
  /** `[rows / unionGroup, >= result]` i32 out: ascending. */
  readonly indices: Tensor;
  /** `[rows / unionGroup]` i32 out. */
  readonly counts: Tensor;
  /** Shape and row stride of indices, u16 out: bit g, row g of the union selected it. */
  readonly masks?: Tensor | undefined;
}

/**
 * The best slots of each row: larger score first, equal scores smaller index first, NaN last. Exact.
 *
 * @throws {SpindleKVError} ERR_SPINDLEKV_ARGUMENT when a tensor's dtype, shape or strides or an option is wrong,
 *   ERR_SPINDLEKV_UNSUPPORTED when the backend has no kernel for it, ERR_SPINDLEKV_WRONG_DEVICE when the tensors
 *   are not on one device, ERR_SPINDLEKV_DISPOSED when one of them or the device is disposed,
 *   ERR_SPINDLEKV_OUT_OF_MEMORY when there is no room for the workspace
 * @example
 * ```ts
 * selectTopk({ scores, lengths: [1000], k: [256], sinks: 4, recent: 32, indices, counts });
 * ```
 */
export function selectTopk(params: SelectTopkParams): void {
  native().selectTopk(params);
}

/**
 * {@link selectTopk} off the event loop; resolves when the device is done. Argument errors reject.
 *
 * @throws {SpindleKVError} as {@link selectTopk}, and ERR_SPINDLEKV_ABORTED when `options.signal` aborted it: what was
 *   written until then means nothing
 */
export function selectTopkAsync(params: SelectTopkParams, options?: AsyncOptions): Promise<void> {
  return runJob(options, (token) => native().selectTopkAsync(params, token));
}
