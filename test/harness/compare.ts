// Comparing results: length, then the places of NaN and infinities, then element by element, then the
// aggregate. A failure names the worst element, both values and their distance in ulps.
import { type FloatDType, ulpOf } from "../oracle/float-formats.ts";

export interface Bounds {
  /** Largest allowed error of element i. */
  readonly element: (i: number) => number;
  /** Largest allowed root mean square error; none when absent. */
  readonly rms?: number;
  /** Dtype whose ulps are printed; f32 by default. */
  readonly dtype?: FloatDType;
}

function checkLength(name: string, got: ArrayLike<number>, expected: ArrayLike<number>): void {
  if (got.length !== expected.length) {
    throw new Error(`${name}: ${got.length} elements, expected ${expected.length}`);
  }
}

/** Equal bit for bit, signs of zeros included; all NaN are one. */
export function compareExact(
  name: string,
  got: ArrayLike<number>,
  expected: ArrayLike<number>,
): void {
  checkLength(name, got, expected);
  let wrong = 0;
  let first = -1;
  for (let i = 0; i < got.length; i++) {
    if (Object.is(got[i], expected[i])) continue;
    wrong += 1;
    if (first < 0) first = i;
  }
  if (wrong === 0) return;
  const ulps = Math.abs(got[first] - expected[first]) / ulpOf("f32", expected[first]);
  throw new Error(
    `${name}: ${wrong} of ${got.length} elements differ; first at ${first}: ` +
      `got ${got[first]}, expected ${expected[first]} (${ulps} ulps of f32)`,
  );
}

function checkSpecials(name: string, got: ArrayLike<number>, expected: ArrayLike<number>): void {
  for (let i = 0; i < got.length; i++) {
    const isSpecial = !Number.isFinite(got[i]) || !Number.isFinite(expected[i]);
    if (isSpecial && !Object.is(got[i], expected[i])) {
      throw new Error(`${name}: got ${got[i]} at ${i}, expected ${expected[i]}`);
    }
  }
}

export function compareWithin(
  name: string,
  got: ArrayLike<number>,
  expected: ArrayLike<number>,
  bounds: Bounds,
): void {
  checkLength(name, got, expected);
  checkSpecials(name, got, expected);
  const dtype = bounds.dtype ?? "f32";
  let worst = -1;
  let worstRatio = 1;
  let squares = 0;
  for (let i = 0; i < got.length; i++) {
    if (!Number.isFinite(expected[i])) continue;
    const error = Math.abs(got[i] - expected[i]);
    squares += error * error;
    const ratio = error === 0 ? 0 : error / bounds.element(i);
    if (ratio > worstRatio) [worst, worstRatio] = [i, ratio];
  }
  if (worst >= 0) {
    const error = Math.abs(got[worst] - expected[worst]);
    throw new Error(
      `${name}: worst at ${worst}: got ${got[worst]}, expected ${expected[worst]} ` +
        `(${error / ulpOf(dtype, expected[worst])} ulps of ${dtype}), ${worstRatio.toPrecision(3)} times the bound`,
    );
  }
  const rms = Math.sqrt(squares / Math.max(1, got.length));
  if (bounds.rms !== undefined && rms > bounds.rms) {
    throw new Error(`${name}: root mean square error ${rms}, bound ${bounds.rms}`);
  }
}
