// Reading and writing tensors whose elements do not lie one behind the other.
import { expect, it } from "vitest";
import { Tensor } from "../../lib/tensor.ts";
import { describeOp } from "../harness/backends.ts";

interface Layout {
  readonly shape: readonly number[];
  readonly strides: readonly number[];
  readonly offset?: number;
}

// Short rows are read as one span, long ones far apart one by one.
const layouts: Readonly<Record<string, Layout>> = {
  "dense rows": { shape: [3, 5], strides: [5, 1] },
  "short rows with gaps": { shape: [3, 2], strides: [7, 1], offset: 4 },
  columns: { shape: [4, 3], strides: [1, 6] },
  "short rows far apart": { shape: [4, 8], strides: [4096, 1], offset: 9 },
  "long rows close together": { shape: [3, 1024], strides: [1100, 1], offset: 1 },
  "long rows far apart": { shape: [5, 1024], strides: [5000, 1], offset: 3 },
  "long rows far apart, in two axes": { shape: [2, 3, 1030], strides: [40_000, 6000, 1] },
  "long columns far apart": { shape: [1024, 2], strides: [17, 9000] },
  "no rows": { shape: [0, 1024], strides: [5000, 1] },
};

/** Index into the block of every element, in logical order. */
function places({ shape, strides, offset = 0 }: Layout): number[] {
  return shape.reduce(
    (firsts, size, axis) =>
      firsts.flatMap((first) => Array.from({ length: size }, (_, i) => first + i * strides[axis])),
    [offset],
  );
}

describeOp("views of tensors", (_backend, device) => {
  const size = 90_000;

  it.each(Object.entries(layouts))("read and write their own elements: %s", async (_, layout) => {
    const at = places(layout);
    using block = Tensor.from(
      device,
      "i32",
      [size],
      Int32Array.from({ length: size }, (_, i) => i),
    );
    using view = block.view(layout);
    const expected = Int32Array.from(at);
    expect(await view.read()).toEqual(expected);
    expect(view.readSync()).toEqual(expected);
    view.write(expected.map((value) => -value - 1));
    const after = Int32Array.from({ length: size }, (_, i) => i);
    for (const place of at) after[place] = -place - 1;
    expect(block.readSync()).toEqual(after);
  });
});
