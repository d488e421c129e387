import type { SelectPart } from "../cache/method.js";
import { argumentError } from "../errors.js";
import { slotCount } from "./slot-count.js";

/** Options of {@link topK}. */
export interface TopKOptions {
  /** First slots that always stay. Default 0. */
  readonly sinks?: number;
  /**
   * Last slots that always stay; "window" (default): those whose queries rank the others; share: that part of the
   * budget, in [0, 1].
   */
  readonly recent?: number | "window" | { readonly share: number };
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
    recent: recentOf(recent),
    visibility,
  } satisfies SelectPart);
}

function recentOf(recent: NonNullable<TopKOptions["recent"]>): SelectPart["recent"] {
  if (recent === "window") return recent;
  if (typeof recent !== "object" || recent === null) return slotCount("topK", "recent", recent);
  const { share } = recent;
  if (!(share >= 0 && share <= 1)) {
    throw argumentError("topK", "a number in [0, 1]", "recent.share", share);
  }
  return Object.freeze({ share });
}
