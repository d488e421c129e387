/**
 * Compares methods at equal measured bytes. A target is a wish: two methods at the same keep value may hold
 * different bytes, and then the larger one has an advantage that is none of its merit. So each measurement is
 * set against the baseline on the same prompt or text at the same bytes:
 *   paired        one of the baseline's measurements differs by less than 1 % in bytes
 *   interpolated  else: the straight line, over the logarithm of bytes, between the baseline's nearest two
 *   none          else: ours lies outside what the baseline measured; nothing is claimed
 */
import type { TrialChoice } from "./choices.js";
import { groupBy } from "./group.js";
import { bootstrapMean, type Estimate, mean } from "./statistics.js";

/** What came out for a choice on one prompt or text. */
export interface Measured<Name extends string> extends TrialChoice {
  /** Which prompt or text. */
  readonly unit: number;
  readonly bytes: number;
  readonly values: Readonly<Record<Name, number>>;
}

/** How the baseline's value at our bytes was found; the weakest way that any of the units needed. */
export type Match = "paired" | "interpolated" | "none";

export interface EqualBytes<Name extends string> {
  readonly method: string;
  readonly keep: number | null;
  readonly baseline: string;
  readonly how: Match;
  /** Mean bytes of `method` over the units that were compared, or over all of them where none was. */
  readonly bytes: number;
  /** Units compared, and units of `method`. */
  readonly units: number;
  readonly of: number;
  /** Mean of ours - theirs with its paired bootstrap interval; absent with "none". */
  readonly differences?: Readonly<Record<Name, Estimate>>;
}

/** Largest relative difference in bytes of what counts as equal. */
export const kEqualBytes = 0.01;

/** What to compare: a method with another, or with every other. */
export interface Pairing {
  readonly method: string;
  readonly baseline?: string;
}

/** `method` at each of its keep values against the baseline, or against every other method. */
export function compareAtEqualBytes<Name extends string>(
  measured: readonly Measured<Name>[],
  { method, baseline }: Pairing,
): EqualBytes<Name>[] {
  const ours = groupBy(
    measured.filter((each) => each.method === method),
    ({ keep }) => keep,
  );
  const others = groupBy(
    measured.filter((each) => each.method !== method && each.method === (baseline ?? each.method)),
    (each) => each.method,
  );
  return [...ours.values()].flatMap((own) =>
    [...others.values()].map((theirs) => compareUnits(own, theirs)),
  );
}

function compareUnits<Name extends string>(
  ours: readonly Measured<Name>[],
  theirs: readonly Measured<Name>[],
): EqualBytes<Name> {
  const byUnit = groupBy(theirs, ({ unit }) => unit);
  const found = ours.flatMap((our) => {
    const match = valuesAt(byUnit.get(our.unit) ?? [], our.bytes);
    return match === undefined ? [] : [{ our, ...match }];
  });
  const { method, keep } = ours[0];
  const about = { method, keep, baseline: theirs[0].method, units: found.length, of: ours.length };
  // Units drop out where ours lies outside the baseline's range: those that are left would be a selection.
  if (found.length < ours.length) {
    return { ...about, how: "none", bytes: mean(ours.map(({ bytes }) => bytes)) };
  }
  const names = Object.keys(ours[0].values) as Name[];
  const differences = names.map((name) => [
    name,
    bootstrapMean(found.map(({ our, values }) => our.values[name] - values[name])),
  ]);
  return {
    ...about,
    how: found.every(({ how }) => how === "paired") ? "paired" : "interpolated",
    bytes: mean(found.map(({ our }) => our.bytes)),
    differences: Object.fromEntries(differences),
  };
}

/** The baseline's values on one unit at so many bytes. */
function valuesAt<Name extends string>(
  measured: readonly Measured<Name>[],
  bytes: number,
): { how: Match; values: Readonly<Record<Name, number>> } | undefined {
  const distance = (each: Measured<Name>) => Math.abs(each.bytes / bytes - 1);
  const sorted = [...measured].sort((a, b) => distance(a) - distance(b));
  if (sorted.length === 0) return undefined;
  if (distance(sorted[0]) < kEqualBytes) return { how: "paired", values: sorted[0].values };
  const below = sorted.find((each) => each.bytes < bytes);
  const above = sorted.find((each) => each.bytes > bytes);
  if (below === undefined || above === undefined) return undefined;
  const share = Math.log(bytes / below.bytes) / Math.log(above.bytes / below.bytes);
  const names = Object.keys(below.values) as Name[];
  const values = names.map((name) => [
    name,
    below.values[name] + share * (above.values[name] - below.values[name]),
  ]);
  return { how: "interpolated", values: Object.fromEntries(values) };
}
