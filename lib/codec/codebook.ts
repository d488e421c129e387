import type { CodebookCodec } from "../cache/method.js";
import { argumentError } from "../errors.js";

/** Options of {@link codebook}. */
export interface CodebookOptions {
  /** Cosine above which a key shares a codeword, in [-1, 1). Default 0.98 (paper). */
  readonly thetaK?: number;
  /** The same for values. Default 0.95 (paper). */
  readonly thetaV?: number;
  /** "auto": when the codebooks alone fit the budget, what is left buys higher thetas. Default "fixed". */
  readonly theta?: "fixed" | "auto";
  /** Rounds of spherical k-means under the theta guarantee, 0..100. Default 0 (paper). */
  readonly refine?: number;
  /** Codewords per codebook at most; the rest takes the nearest one. 0 (default): as many as theta needs. */
  readonly codewords?: number;
  /** Keep the newest (protected) slots raw. Default false: they are encoded as well. */
  readonly recentRaw?: boolean;
  /** Decoded tokens join the codebook in blocks of so many, 0..4096; 0: they stay raw. Default 32. */
  readonly insertInterval?: number;
}

function range(name: string, value: number, low: number, high: number, integer: boolean): number {
  const valid = value >= low && value <= high && (!integer || Number.isInteger(value));
  if (!valid) {
    const kind = integer ? "an integer" : "a number";
    throw argumentError("codebook", `${kind} in [${low}, ${high}]`, name, value);
  }
  return value;
}

/**
 * Kept slots become a reference and a magnitude each, for K (before RoPE) and V; the directions are shared
 * codewords, one codebook per layer and KV head and side.
 *
 * A slot's row is magnitude * codeword with cos(row, codeword) > theta. Codewords are found as a greedy
 * maximum-degree cover of the graph cos > theta.
 *
 * @source SpindleKV, arXiv 2507.06517, eq. 8-14 and Algorithm 1.
 *
 * Differs from the paper: one codebook per KV head instead of per layer (the graph stays small); optional
 * k-means refinement; bytes are counted per reference as stored.
 *
 * Cost: 2 * (2 + element) + 4 bytes a slot, 2 * headDim elements a pair of codewords; building compares all
 * pairs of slots of a head. Not for caches without RoPE information: keys must be stored before RoPE.
 *
 * @throws {SpindleKVError} ERR_SPINDLEKV_ARGUMENT when an option is out of range
 */
export function codebook(options: CodebookOptions = {}): CodebookCodec {
  const theta = options.theta ?? "fixed";
  if (theta !== "fixed" && theta !== "auto") {
    throw argumentError("codebook", '"fixed" or "auto"', "theta", theta);
  }
  return Object.freeze({
    id: "codebook",
    needs: Object.freeze(["pre-rope keys", "values", "positions"] as const),
    thetaK: range("thetaK", options.thetaK ?? 0.98, -1, 1, false),
    thetaV: range("thetaV", options.thetaV ?? 0.95, -1, 1, false),
    theta,
    refine: range("refine", options.refine ?? 0, 0, 100, true),
    codewords: range("codewords", options.codewords ?? 0, 0, 2 ** 31 - 1, true),
    recentRaw: options.recentRaw ?? false,
    insertInterval: range("insertInterval", options.insertInterval ?? 32, 0, 4096, true),
  });
}
