/** A goal and whether it was met: by the median, and never by what was not measured. */
import { type MissingPeer, notInstalled } from "./peer.ts";
import type { Goal } from "./result.ts";
import type { Spread } from "./statistics.ts";

export interface Bound {
  readonly what: string;
  readonly unit?: string;
  readonly atLeast?: number;
  readonly atMost?: number;
}

/** @param measured the figure, or why there is none */
export function goalOf(bound: Bound, measured: Spread | MissingPeer): Goal {
  const { what, unit, atLeast, atMost } = bound;
  const asked = atLeast === undefined ? `<= ${atMost}` : `>= ${atLeast}`;
  const goal = { what, asked, ...(unit !== undefined && { unit }) };
  if ("missing" in measured) {
    return { ...goal, measured: null, met: null, because: notInstalled(measured) };
  }
  const { median, low, high } = measured;
  const met = atLeast === undefined ? median <= atMost! : median >= atLeast;
  return { ...goal, measured: median, low, high, met };
}
