// Memory layouts of test tensors: contiguous, padded rows, and slices of larger tensors.

export type Layout = "contiguous" | "padded" | "sliced";
export const LAYOUTS: readonly Layout[] = ["contiguous", "padded", "sliced"];

/** Strides in elements and size of a tensor in the layout; the innermost dimension is contiguous. */
export function stridesOf(
  shape: readonly number[],
  layout: Layout,
  gap: number,
): { strides: number[]; offset: number; size: number } {
  const strides = new Array<number>(shape.length).fill(1);
  const count = shape.reduce((a, b) => a * b, 1);
  if (layout === "sliced" && shape.length === 3) {
    // [H, T, D] cut out of [T, H + 1, D]: heads interleaved inside a token.
    const [heads, tokens, dim] = shape;
    return { strides: [dim, (heads + 1) * dim, 1], offset: 0, size: tokens * (heads + 1) * dim };
  }
  if (layout === "sliced" && shape.length === 2) {
    // Columns [C, 2C) of a tensor with 3C columns.
    const [rows, columns] = shape;
    return { strides: [3 * columns, 1], offset: columns, size: rows * 3 * columns };
  }
  const extra = layout === "padded" ? gap : 0;
  for (let i = shape.length - 2; i >= 0; i--) strides[i] = strides[i + 1] * shape[i + 1] + extra;
  const size = count === 0 ? 0 : shape.reduce((sum, n, i) => sum + (n - 1) * strides[i], 1);
  return { strides, offset: 0, size };
}

/** Offsets of all elements in logical order. */
export function offsetsOf(
  shape: readonly number[],
  strides: readonly number[],
  offset: number,
): Int32Array {
  let offsets = Int32Array.of(offset);
  shape.forEach((n, axis) => {
    const next = new Int32Array(offsets.length * n);
    for (let i = 0; i < offsets.length; i++) {
      for (let j = 0; j < n; j++) next[i * n + j] = offsets[i] + j * strides[axis];
    }
    offsets = next;
  });
  return offsets;
}
