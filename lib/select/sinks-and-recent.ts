import type { SelectPart } from "../cache/method.js";
import { slotCount } from "./slot-count.js";

/** Options of {@link sinksAndRecent}. */
export interface SinksAndRecentOptions {
  /** First slots that always stay. Default 4 (StreamingLLM). */
  readonly sinks?: number;
}

/**
 * Keeps the first `sinks` slots and as many of the last ones as the budget gives.
 *
 * @source StreamingLLM, arXiv 2309.17453, section 3.2.
 * @throws {SpindleKVError} ERR_SPINDLEKV_ARGUMENT when sinks is not an integer of 0 or more
 */
export function sinksAndRecent(options: SinksAndRecentOptions = {}): SelectPart {
  return Object.freeze({
    id: "sinks-and-recent",
    needs: Object.freeze(["positions"] as const),
    sinks: slotCount("sinksAndRecent", "sinks", options.sinks ?? 4),
    recent: "budget",
    visibility: "group",
  } satisfies SelectPart);
}
