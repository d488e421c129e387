import type { SelectPart } from "../cache/method.js";
import { argumentError } from "../errors.js";
import { slotCount } from "./slot-count.js";

/** Options of {@link topK}. */
export interface TopKOptions {
  /** First slots that always stay. Default 0. */
  readonly sinks?: number;
  /** Last slots that always stay; "window" (default): those whose queries rank the others. */
  readonly recent?: number | "window";
  /**
   * With rankings per query head: "group" (default), every head of the group sees what any of them selected;
   * "head", a head sees its own selection only (a bit mask on each slot).
   */
  readonly visibility?: "group" | "head";
}

/**
 * Keeps the best slots by score, and the protected ones: larger score first, equal scores the older slot.
 *
 * @throws {SpindleKVError} ERR_SPINDLEKV_ARGUMENT when an option is out of range
 */
export function topK(options: TopKOptions = {}): SelectPart {
  const recent = options.recent ?? "window";
  const visibility = options.visibility ?? "group";
  if (visibility !== "group" && visibility !== "head") {
    throw argumentError("topK", '"group" or "head"', "visibility", visibility);
  }
  return Object.freeze({
    id: "top-k",
    needs: Object.freeze([]),
    sinks: slotCount("topK", "sinks", options.sinks ?? 0),
    recent: recent === "window" ? recent : slotCount("topK", "recent", recent),
    visibility,
  } satisfies SelectPart);
}
