import type { BudgetTarget } from "../cache/method.js";
import { argumentError } from "../errors.js";

/** How much stays; exactly one field. */
export interface TargetOptions {
  /** Fraction in (0, 1] of the bytes of the native GQA f16 cache of the same tokens. */
  readonly keep?: number;
  /** Bytes of the whole cache. */
  readonly bytes?: number;
  /** Slots per layer and KV head on average, protected ones included. */
  readonly tokens?: number;
}

/**
 * The one target that the options name.
 *
 * @throws {SpindleKVError} ERR_SPINDLEKV_ARGUMENT when none or more than one is given
 */
export function targetOf(op: string, options: TargetOptions): BudgetTarget {
  if (typeof options !== "object" || options === null) {
    throw argumentError(op, "an object", "options", options);
  }
  const given = (["keep", "bytes", "tokens"] as const).filter(
    (name) => options[name] !== undefined,
  );
  if (given.length !== 1) {
    throw argumentError(op, "exactly one of keep, bytes and tokens", "target", given);
  }
  const { keep, bytes, tokens } = options;
  if (keep !== undefined) return { keep };
  if (bytes !== undefined) return { bytes };
  return { tokens: tokens as number };
}
