/** RoPE in float64 from the formulas of the papers, for the reference cache and the reference model. */
import type { RopeConfig } from "../../lib/runtimes/gguf-llama/index.ts";

export class ReferenceRope {
  /** Angle of each pair per position. */
  readonly frequencies: readonly number[];
  /** What YaRN multiplies turned vectors by. */
  readonly magnitude: number;
  private readonly style: "norm" | "neox";

  constructor({ theta, style, scaling }: RopeConfig, headDim: number) {
    const pairs = headDim / 2;
    const plain = Array.from({ length: pairs }, (_, i) => theta ** (-i / pairs));
    this.style = style;
    this.magnitude = 1;
    switch (scaling.kind) {
      case "none":
        this.frequencies = plain;
        break;
      case "linear":
        this.frequencies = plain.map((f) => f / scaling.factor);
        break;
      case "factors":
        this.frequencies = plain.map((f, i) => f / scaling.factors[i]);
        break;
      case "yarn": {
        // arXiv 2309.00071: pairs with few turns over the original context are stretched, those with many are not.
        const { factor, originalPositions, betaFast = 32, betaSlow = 1 } = scaling;
        const pairOf = (turns: number) =>
          (pairs * Math.log(originalPositions / (2 * Math.PI * turns))) / Math.log(theta);
        const low = Math.max(0, Math.floor(pairOf(betaFast)));
        const high = Math.min(headDim - 1, Math.ceil(pairOf(betaSlow)));
        this.frequencies = plain.map((f, i) => {
          const stretched = Math.min(1, Math.max(0, (i - low) / Math.max(0.001, high - low)));
          return f * (1 - stretched) + (f / factor) * stretched;
        });
        this.magnitude = scaling.attentionFactor ?? 1 + 0.1 * Math.log(factor);
        break;
      }
      default:
        throw new Error(`reference rope: no formula for ${scaling.kind}`);
    }
  }

  /** Turns one row of headDim numbers in place. */
  rotate(row: Float32Array | Float64Array, position: number): void {
    const pairs = this.frequencies.length;
    this.frequencies.forEach((frequency, i) => {
      const [first, second] = this.style === "norm" ? [2 * i, 2 * i + 1] : [i, i + pairs];
      const cos = this.magnitude * Math.cos(position * frequency);
      const sin = this.magnitude * Math.sin(position * frequency);
      const [a, b] = [row[first], row[second]];
      row[first] = a * cos - b * sin;
      row[second] = a * sin + b * cos;
    });
  }
}
