/** Arithmetic on dense float32 rows, in place or into another array. */

/** out = x / sqrt(mean(x^2) + epsilon) * weight, row by row; `out` may be x. */
export function rmsNorm(
  x: Float32Array,
  weight: Float32Array,
  epsilon: number,
  out: Float32Array,
): void {
  const width = weight.length;
  for (let row = 0; row < x.length; row += width) {
    let sum = 0;
    for (let i = 0; i < width; i++) sum += x[row + i] * x[row + i];
    const scale = 1 / Math.sqrt(sum / width + epsilon);
    for (let i = 0; i < width; i++) out[row + i] = x[row + i] * scale * weight[i];
  }
}

/** x += delta */
export function addTo(x: Float32Array, delta: Float32Array): void {
  for (let i = 0; i < x.length; i++) x[i] += delta[i];
}

/** [outer, inner, headDim] to [inner, outer, headDim]. */
export function swapHeads(
  x: Float32Array,
  outer: number,
  inner: number,
  headDim: number,
): Float32Array {
  const out = new Float32Array(outer * inner * headDim);
  for (let o = 0; o < outer; o++) {
    for (let i = 0; i < inner; i++) {
      const from = (o * inner + i) * headDim;
      out.set(x.subarray(from, from + headDim), (i * outer + o) * headDim);
    }
  }
  return out;
}

/** Moves the rows of `width` numbers that `kept` names, ascending, to the front of x; returns them. */
export function keepRows(x: Float32Array<ArrayBuffer>, width: number, kept: Int32Array) {
  kept.forEach((row, place) => {
    x.copyWithin(place * width, row * width, (row + 1) * width);
  });
  return x.subarray(0, kept.length * width);
}
