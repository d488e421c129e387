// Reading the slots of a head as dense rows, in the arithmetic asked for: exact (float64) or float32.
import { fround } from "./float32.ts";
import { rotateRow, rotateRowTwin } from "./rope.ts";
import type { HeadValues, QueryValues, RunValues } from "./types.ts";

/** A slot of a head: its run and its index inside the run. */
export interface SlotPlace {
  readonly run: RunValues;
  readonly local: number;
  readonly index: number;
}

export function slotPlaces(head: HeadValues): SlotPlace[] {
  const places: SlotPlace[] = [];
  for (const run of head) {
    for (let local = 0; local < run.slots; local++)
      places.push({ run, local, index: places.length });
  }
  return places;
}

/** Row of keys or values: magnitude times codeword, or the raw row. */
export function rowOf(
  place: SlotPlace,
  part: "k" | "v",
  headDim: number,
  round: (x: number) => number,
): Float64Array {
  const { run, local } = place;
  const rows = run[part];
  if (run.codec === "raw") {
    return new Float64Array(rows.subarray(local * headDim, (local + 1) * headDim));
  }
  const codeword = (part === "k" ? run.kRef! : run.vRef!)[local];
  const magnitude = (part === "k" ? run.kMagnitude! : run.vMagnitude!)[local];
  const row = new Float64Array(headDim);
  for (let d = 0; d < headDim; d++) row[d] = round(magnitude * rows[codeword * headDim + d]);
  return row;
}

/** What turns a stored key into the one that attention sees. */
export type KeyReading = Pick<QueryValues, "headDim" | "rope" | "reindex">;

/** Key of a slot as attention sees it (k'), exactly or in float32. */
export function keyOf(
  place: SlotPlace,
  values: KeyReading,
  arithmetic: "f64" | "f32",
): Float64Array {
  const round = arithmetic === "f32" ? fround : (x: number) => x;
  const row = rowOf(place, "k", values.headDim, round);
  if (values.rope === undefined || place.run.rotated) return row;
  const position = values.reindex ? place.index : place.run.positions[place.local];
  return arithmetic === "f32"
    ? rotateRowTwin(row, position, values.rope)
    : rotateRow(row, position, values.rope);
}

/** Query t of query head h as attention sees it (q'). */
export function queryOf(
  values: QueryValues,
  head: number,
  query: number,
  arithmetic: "f64" | "f32",
): Float64Array {
  const { headDim, queries, q } = values;
  const start = (head * queries + query) * headDim;
  const row = new Float64Array(q.subarray(start, start + headDim));
  if (values.rope === undefined) return row;
  const position = values.ropeQueryPosition + query;
  return arithmetic === "f32"
    ? rotateRowTwin(row, position, values.rope)
    : rotateRow(row, position, values.rope);
}

/** Whether query t of a query head may look at a slot. */
export function isVisible(
  place: SlotPlace,
  values: QueryValues,
  queryHead: number,
  query: number,
): boolean {
  const bit = queryHead % values.group;
  if (place.run.mask !== undefined && ((place.run.mask[place.local] >> bit) & 1) === 0)
    return false;
  return !values.causal || place.run.positions[place.local] <= values.queryPosition + query;
}

export function betaOf(place: SlotPlace): number {
  return place.run.beta === undefined ? 0 : place.run.beta[place.local];
}
