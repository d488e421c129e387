/** Tables of RoPE angles. */
import type { Device } from "./device.js";
import { native } from "./native.js";
import { Tensor } from "./tensor.js";

/**
 * Changes of the angles for contexts longer than the model was trained with. f_i = theta^(-2i / nRot).
 *
 * - `linear`: f_i / factor
 * - `yarn`: f_i / factor for slow pairs, f_i for fast ones, a ramp between; cosines and sines are scaled
 * - `llama3`: by wavelength, as Llama 3.1 does
 * - `factors`: f_i / factors[i], as model files state it that bring their divisors along
 *
 * @source linear arXiv 2306.15595; yarn arXiv 2309.00071, sections 3.2 and 3.4; llama3 the Llama 3.1 model code
 */
export type RopeScaling =
  | { readonly kind: "none" }
  | {
      readonly kind: "linear";
      /** Context extension, >= 1. */
      readonly factor: number;
    }
  | {
      readonly kind: "yarn";
      /** Context extension, >= 1. */
      readonly factor: number;
      /** Context of the training, tokens. */
      readonly originalPositions: number;
      /** Pairs with more turns than this over the original context keep their angle; default 32. */
      readonly betaFast?: number;
      /** Pairs with fewer turns are interpolated; default 1. */
      readonly betaSlow?: number;
      /** Scale of the turned vectors; default 0.1 ln(factor) + 1. */
      readonly attentionFactor?: number;
    }
  | {
      readonly kind: "llama3";
      /** Context extension, >= 1. */
      readonly factor: number;
      /** Context of the training, tokens. */
      readonly originalPositions: number;
      /** Wavelengths above originalPositions / lowFreqFactor are interpolated; default 1. */
      readonly lowFreqFactor?: number;
      /** Wavelengths below originalPositions / highFreqFactor stay; default 4. */
      readonly highFreqFactor?: number;
    }
  | {
      readonly kind: "factors";
      /** Divisor of each pair's frequency, > 0; nRot / 2 of them. */
      readonly factors: readonly number[];
    };

/** Options of {@link makeRopeTable}. */
export interface RopeTableOptions {
  /** Base of the frequencies, > 1. */
  readonly theta: number;
  /** Leading dims of a row that turn; even, at most headDim. */
  readonly nRot: number;
  /** Positions that the table reaches: 0 .. positions - 1. */
  readonly positions: number;
  readonly scaling?: RopeScaling;
}

/**
 * A table of cosines and sines for the ops that rotate: `[positions, nRot / 2, 2]` f32, computed in float64
 * and rounded once, so that every backend turns by the same numbers.
 *
 * @returns the table; the caller disposes it
 * @throws {SpindleKVError} ERR_SPINDLEKV_ARGUMENT for options outside their range,
 *   ERR_SPINDLEKV_OUT_OF_MEMORY when there is no memory, ERR_SPINDLEKV_DISPOSED when the device is disposed
 * @example
 * ```ts
 * import { makeRopeTable, openDevice } from "spindlekv";
 *
 * using device = await openDevice("cpu");
 * using table = makeRopeTable(device, { theta: 500_000, nRot: 128, positions: 8192 });
 * ```
 */
export function makeRopeTable(device: Device, options: RopeTableOptions): Tensor<"f32"> {
  const angles = native().makeRopeAngles(options);
  return Tensor.from(device, "f32", [options.positions, options.nRot / 2, 2], angles);
}
