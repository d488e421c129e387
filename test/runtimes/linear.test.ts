import { describe, expect, it } from "vitest";
import { Random } from "../../lib/eval/random.ts";
import { LinearStore } from "../../lib/runtimes/gguf-llama/linear.ts";

const random = new Random(3);
const uniform = (length: number) => Float32Array.from({ length }, () => 2 * random.unit() - 1);

/** float64, plain loops; also the sum of magnitudes, which the rounding error is proportional to. */
function product(x: Float32Array, weight: Float32Array, t: number, o: number, inputs: number) {
  let sum = 0;
  let magnitude = 0;
  for (let i = 0; i < inputs; i++) {
    const term = x[t * inputs + i] * weight[o * inputs + i];
    sum += term;
    magnitude += Math.abs(term);
  }
  return { sum, magnitude };
}

describe("the matrix product equals float64 loops", () => {
  // Tokens around the tile of 4 and the block of 64; outputs around the tile of 8.
  const shapes = [0, 1, 3, 4, 5, 63, 64, 65, 131].flatMap((tokens) =>
    [1, 7, 8, 9, 24].map((outputs) => ({ tokens, outputs, inputs: 1 + ((tokens + outputs) % 70) })),
  );
  it.each(shapes)("tokens $tokens, outputs $outputs, inputs $inputs", (shape) => {
    const { tokens, outputs, inputs } = shape;
    const x = uniform(tokens * inputs);
    const weight = uniform(outputs * inputs);
    const canary = 12345;
    const out = new Float32Array(tokens * outputs + 8).fill(canary);
    new LinearStore().add(weight, outputs, inputs).forward(x, tokens, out);
    for (let t = 0; t < tokens; t++) {
      for (let o = 0; o < outputs; o++) {
        const { sum, magnitude } = product(x, weight, t, o, inputs);
        // Sequential float32 summation: inputs roundings of at most 2^-24 of the magnitude each.
        const bound = (inputs + 1) * 2 ** -24 * magnitude;
        expect(Math.abs(out[t * outputs + o] - sum)).toBeLessThanOrEqual(bound);
      }
    }
    expect(Array.from(out.subarray(tokens * outputs))).toEqual(Array(8).fill(canary));
  });

  it("the same whether rows come together or alone", () => {
    const linear = new LinearStore().add(uniform(24 * 50), 24, 50);
    const x = uniform(70 * 50);
    const together = new Float32Array(70 * 24);
    const alone = new Float32Array(70 * 24);
    linear.forward(x, 70, together);
    for (let t = 0; t < 70; t++) linear.forward(x.subarray(t * 50), 1, alone.subarray(t * 24));
    expect(alone).toEqual(together);
  });
});

describe("weights of one store", () => {
  it("do not disturb each other while the memory grows", () => {
    const store = new LinearStore();
    const weights = [
      [40, 30],
      [900, 100],
      [16, 1000],
    ].map(([outputs, inputs]) => ({ outputs, inputs, weight: uniform(outputs * inputs) }));
    const x = uniform(5 * 1000);
    const first = store.add(weights[0].weight, 40, 30);
    const before = new Float32Array(5 * 40);
    first.forward(x, 5, before);
    const others = weights
      .slice(1)
      .map(({ weight, outputs, inputs }) => store.add(weight, outputs, inputs));
    for (const other of others) other.forward(x, 5, new Float32Array(5 * other.outputs));
    const after = new Float32Array(5 * 40);
    first.forward(x, 5, after);
    expect(after).toEqual(before);
    expect(after.some((value) => value !== 0)).toBe(true);
  });

  it("are refused in the wrong size, as are rows", () => {
    const store = new LinearStore();
    expect(() => store.add(new Float32Array(5), 2, 3)).toThrow("expected 2 x 3 elements");
    const linear = store.add(new Float32Array(6), 2, 3);
    const rows = new Float32Array(3);
    expect(() => linear.forward(rows, 2, new Float32Array(4))).toThrow(
      "expected 2 rows of 3 and 2",
    );
    expect(() => linear.forward(rows, 1, new Float32Array(1))).toThrow(
      "expected 1 rows of 3 and 2",
    );
  });
});
