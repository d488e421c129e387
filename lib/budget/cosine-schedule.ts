import type { ShapeBudget } from "../cache/method.js";
import { argumentError } from "../errors.js";
import { largestRemainder } from "./largest-remainder.js";

/** Options of {@link cosineSchedule}. */
export interface CosineScheduleOptions {
  /** Part of the slots that the last of the layers' steps keeps, in (0, 1]. Default 0.9. */
  readonly decay?: number;
  /** Layers between two steps, 1 or more. Default 1. */
  readonly interval?: number;
}

/**
 * Budgets that fall by a factor after every layer, ever faster along a cosine.
 *
 *   rho_l  = decay + (1 - decay) * (cos(pi * l / L) + 1) / 2      for l with l mod interval = 0, else 1
 *   w_0    = 1,  w_(l+1) = w_l * rho_l
 *   k_l    = total * w_l / sum of w
 *
 * Default: decay 0.9 in every layer, the reference setting for 7B models.
 *
 * @source PyramidInfer, arXiv 2405.12532, section 3.3, and its reference code (`prefill_decay_ratio`, cosine).
 *
 * Differs from the reference code: there the factors alone set how much stays (0.77 of a 7B model's slots); here they
 * set the shape, and the target the sum.
 *
 * @throws {SpindleKVError} ERR_SPINDLEKV_ARGUMENT when an option is out of range
 */
export function cosineSchedule(options: CosineScheduleOptions = {}): ShapeBudget {
  const { decay = 0.9, interval = 1 } = options;
  cosineFactor(0, 1, options); // checks them
  return Object.freeze({
    id: "cosine-schedule",
    kind: "shape",
    needs: Object.freeze([]),
    options: Object.freeze({ decay, interval }),
    plan: (total, { layers, context }) => {
      const shares = [1];
      for (let layer = 0; layer + 1 < layers; layer++) {
        const factor = cosineFactor(layer, layers, options);
        shares.push((shares[layer] as number) * factor);
      }
      return largestRemainder(shares, total, context);
    },
  } satisfies ShapeBudget);
}

/**
 * rho_l of {@link cosineSchedule}: what goes on from `layer` to the next one.
 *
 * @throws {SpindleKVError} ERR_SPINDLEKV_ARGUMENT when an option is out of range
 */
export function cosineFactor(
  layer: number,
  layers: number,
  { decay = 0.9, interval = 1 }: CosineScheduleOptions,
): number {
  if (!(decay > 0 && decay <= 1)) {
    throw argumentError("cosineSchedule", "a number in (0, 1]", "decay", decay);
  }
  if (!Number.isInteger(interval) || interval < 1) {
    throw argumentError("cosineSchedule", "an integer of 1 or more", "interval", interval);
  }
  if (layer % interval !== 0) return 1;
  return decay + ((1 - decay) * (Math.cos((Math.PI * layer) / layers) + 1)) / 2;
}
