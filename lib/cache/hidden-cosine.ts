import { argumentError } from "../errors.js";

/**
 * Mean cosine of the residual stream before and after a layer's attention, over the tokens seen: near 1 where the
 * attention changes little.
 *
 * @source SqueezeAttention, arXiv 2404.04793, section 3.
 */
export class HiddenCosine {
  #sum = 0;
  #tokens = 0;

  /** undefined: nothing was observed. */
  get mean(): number | undefined {
    return this.#tokens === 0 ? undefined : this.#sum / this.#tokens;
  }

  /** Adds tokens; rows [tokens, width] float32, added up in float64. A row of zeros counts as unchanged (cosine 1). */
  add(before: Float32Array, after: Float32Array, tokens: number): void {
    const isFit =
      before instanceof Float32Array &&
      after instanceof Float32Array &&
      before.length === after.length &&
      Number.isInteger(tokens) &&
      tokens > 0 &&
      before.length % tokens === 0 &&
      before.length > 0;
    if (!isFit) {
      throw argumentError("observe", "two Float32Arrays of [tokens, width]", "after", {
        before: before?.length,
        after: after?.length,
        tokens,
      });
    }
    const width = before.length / tokens;
    for (let token = 0; token < tokens; token++) {
      let dot = 0;
      let normBefore = 0;
      let normAfter = 0;
      for (let i = token * width; i < (token + 1) * width; i++) {
        const a = before[i] as number;
        const b = after[i] as number;
        dot += a * b;
        normBefore += a * a;
        normAfter += b * b;
      }
      const norms = Math.sqrt(normBefore * normAfter);
      this.#sum += norms > 0 ? dot / norms : 1;
    }
    this.#tokens += tokens;
  }

  copy(): HiddenCosine {
    const copy = new HiddenCosine();
    copy.#sum = this.#sum;
    copy.#tokens = this.#tokens;
    return copy;
  }
}
