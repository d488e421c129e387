/** build_codebook: codewords that stand for similar rows. */
import { type AsyncOptions, runJob } from "../jobs.js";
import { native } from "../native.js";
import type { Tensor } from "../tensor.js";
/** The keys or the values of one KV head. What a stage does not use may be left out. */
export interface CodebookProblem {
  /** `[n, headDim]`; may be left out where "cover" reads `graph` alone. */
  readonly x?: Tensor | undefined;
  /** `[rows]` i32, ascending and unique: the rows to cover; default all. */
  readonly rows?: Tensor | undefined;
  /** Rows with a larger cosine may share a codeword, in [-1, 1]. */
  readonly theta: number;
  /** `[n, ceil(n / 64)]` u64: the similarity graph; out of "graph", else read by "cover". */
  readonly graph?: Tensor | undefined;
  /** `[rows]` i32: codeword of each row; out of "cover", in and out of "emit". */
  readonly labels?: Tensor | undefined;
  /** `[capacity]` i32: row of x that each codeword started as; out of "cover", into "emit". */
  readonly leaders?: Tensor | undefined;
  /** `[1]` i32: number of codewords; out of "cover", in and out of "emit". */
  readonly count?: Tensor | undefined;
  /** `[capacity, headDim]` dtype of x, out of "emit". */
  readonly codewords?: Tensor | undefined;
  /** `[rows]` u16 or i32, out of "emit". */
  readonly refs?: Tensor | undefined;
  /** `[rows]` dtype of x, out of "emit": the norms. */
  readonly magnitudes?: Tensor | undefined;
  /** `[rows]` f32, out of "emit": cosine of each row to its codeword. */
  readonly cosines?: Tensor | undefined;
}

/** Parameters of {@link buildCodebook}. */
export interface BuildCodebookParams {
  readonly problems: readonly CodebookProblem[];
  readonly stages: readonly ("graph" | "cover" | "emit")[];
  /** Most codewords per problem; default 0, no limit. */
  readonly maxCodewords?: number | undefined;
  /** Rounds of spherical k-means that keep the theta guarantee; default 0. */
  readonly refine?: number | undefined;
  /** `[1]` i32: the number of rows with NaN or infinity is added. */
  readonly nonfinite?: Tensor | undefined;
}

/**
 * Greedy maximum-degree cover of the graph `cosine > theta`, then refinement. Bitwise equal on every backend.
 *
 * @source SpindleKV (arXiv 2507.06517) eq. 8-13; the refinement is ours
 *
 * @throws {SpindleKVError} ERR_SPINDLEKV_ARGUMENT when a tensor's dtype, shape or strides or an option is wrong,
 *   ERR_SPINDLEKV_UNSUPPORTED when the backend has no kernel for it, ERR_SPINDLEKV_WRONG_DEVICE when the tensors
 *   are not on one device, ERR_SPINDLEKV_DISPOSED when one of them or the device is disposed,
 *   ERR_SPINDLEKV_OUT_OF_MEMORY when there is no room for the workspace
 * @example
 * ```ts
 * buildCodebook({ problems: [{ x, theta: 0.95, labels, leaders, count, codewords }], stages: ["cover", "emit"] });
 * ```
 */
export function buildCodebook(params: BuildCodebookParams): void {
  native().buildCodebook(params);
}

/**
 * {@link buildCodebook} off the event loop; resolves when the device is done. Argument errors reject.
 *
 * @throws {SpindleKVError} as {@link buildCodebook}, and ERR_SPINDLEKV_ABORTED when `options.signal` aborted it: what was
 *   written until then means nothing
 */
export function buildCodebookAsync(
  params: BuildCodebookParams,
  options?: AsyncOptions,
): Promise<void> {
  return runJob(options, (token) => native().buildCodebookAsync(params, token));
}
