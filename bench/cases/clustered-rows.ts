/** Rows around a few centres, as keys are: what codebooks are made for. */
import { roundTo } from "../../test/oracle/float-formats.ts";
import { times } from "../harness/case.ts";
import type { Workbench } from "../harness/workbench.ts";

/** f16 values of `[rows, headDim]`: centre + spread * noise, centres and noise standard normal. */
export function clusteredRows(
  bench: Workbench,
  rows: number,
  headDim: number,
  { centres, spread }: { readonly centres: number; readonly spread: number },
): Float32Array {
  const middle = times(centres, () => bench.normals(headDim));
  const result = new Float32Array(rows * headDim);
  for (let row = 0; row < rows; row++) {
    const centre = bench.random.pick(middle);
    for (let d = 0; d < headDim; d++) {
      const value = centre[d] + spread * bench.random.normal();
      result[row * headDim + d] = roundTo("f16", value);
    }
  }
  return result;
}
