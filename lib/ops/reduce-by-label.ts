/** reduce_by_label: sums, counts and order of labelled rows. */
import { type AsyncOptions, runJob } from "../jobs.js";
import { native } from "../native.js";
import type { Tensor } from "../tensor.js";

/** Rows of one problem. Every output may be left out. */
export interface LabelProblem {
  /** `[n, headDim]`; needed for sums. */
  readonly x?: Tensor | undefined;
  /** `[n]` i32; labels outside [0, nLabels) take no part. */
  readonly labels: Tensor;
  /** `[n]` f32; default 1. */
  readonly weights?: Tensor | undefined;
  readonly nLabels: number;
  /** `[nLabels, headDim]` f32 out: weighted sums of the rows. */
  readonly sums?: Tensor | undefined;
  /** `[nLabels]` i32 out. */
  readonly counts?: Tensor | undefined;
  /** `[nLabels + 1]` i32 out: exclusive prefix of counts. */
  readonly offsets?: Tensor | undefined;
  /** `[n]` i32 out: rows grouped by label, ascending inside. */
  readonly order?: Tensor | undefined;
}

/** Parameters of {@link reduceByLabel}. */
export interface ReduceByLabelParams {
  /** Rows of all problems have one dtype and one head dim. */
  readonly problems: readonly LabelProblem[];
}

/**
 * Counting sort by label with weighted sums, for any number of problems. Bitwise equal on every backend.
 *
 * @throws {SpindleKVError} ERR_SPINDLEKV_ARGUMENT when a tensor's dtype, shape or strides or an option is wrong,
 *   ERR_SPINDLEKV_UNSUPPORTED when the backend has no kernel for it, ERR_SPINDLEKV_WRONG_DEVICE when the tensors
 *   are not on one device, ERR_SPINDLEKV_DISPOSED when one of them or the device is disposed,
 *   ERR_SPINDLEKV_OUT_OF_MEMORY when there is no room for the workspace
 * @example
 * ```ts
 * reduceByLabel({ problems: [{ labels, nLabels: 16, counts, offsets, order }] });
 * ```
 */
export function reduceByLabel(params: ReduceByLabelParams): void {
  native().reduceByLabel(params);
}

/**
 * {@link reduceByLabel} off the event loop; resolves when the device is done. Argument errors reject.
 *
 * @throws {SpindleKVError} as {@link reduceByLabel}, and ERR_SPINDLEKV_ABORTED when `options.signal` aborted it: what was
 *   written until then means nothing
 */
export function reduceByLabelAsync(
  params: ReduceByLabelParams,
  options?: AsyncOptions,
): Promise<void> {
  return runJob(options, (token) => native().reduceByLabelAsync(params, token));
}
