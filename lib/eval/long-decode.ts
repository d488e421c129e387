/** What a cache holds while it decodes many tokens: with a cap it stays flat. */
import type { TrialCache, TrialModel } from "./choices.js";
import { Random } from "./random.js";

/** Memory of a cache at one moment. */
export interface CacheMemory {
  /** Bytes of the cache. */
  readonly cacheBytes: number;
  /** Bytes of the pool's pages in use, and of all that it took from the device. */
  readonly poolBytes: number;
  readonly reservedBytes: number;
}

/** A cache that tells its pool's statistics. */
export interface MeasuredCache extends TrialCache {
  memory(): CacheMemory;
}

export interface MemorySample extends CacheMemory {
  /** Tokens decoded so far. */
  readonly step: number;
  /** Mean milliseconds of a step since the last sample; 0 for the first sample. */
  readonly stepMs: number;
}

export interface LongDecodeOptions {
  readonly model: TrialModel;
  readonly prompt: Int32Array;
  /** An empty cache of the method, on a pool of its own; disposed here. */
  readonly cache: MeasuredCache;
  readonly steps: number;
  /** Steps between two samples. */
  readonly every: number;
  readonly seed: number;
  readonly onSample?: (step: number) => void;
}

/** Prefills, compresses, then samples `steps` tokens from the model's distribution. */
export async function memoryOfDecode(options: LongDecodeOptions): Promise<MemorySample[]> {
  const { model, prompt, cache, steps, every, seed, onSample } = options;
  const random = new Random(seed);
  const samples: MemorySample[] = [];
  try {
    let logits = await model.forward(prompt, cache, { logits: "last" });
    await cache.compress();
    let start = performance.now();
    const sample = (step: number) => {
      const stepMs = (performance.now() - start) / every;
      samples.push({ step, ...cache.memory(), stepMs: step === 0 ? 0 : stepMs });
      onSample?.(step);
      start = performance.now();
    };
    sample(0);
    for (let step = 1; step <= steps; step++) {
      logits = await model.forward(Int32Array.of(draw(logits, random)), cache, { logits: "last" });
      if (step % every === 0 || step === steps) sample(step);
    }
  } finally {
    cache.dispose();
  }
  return samples;
}

/** A token by its probability. */
function draw(logits: Float32Array, random: Random): number {
  const largest = logits.reduce((most, logit) => Math.max(most, logit));
  const weights = logits.map((logit) => Math.exp(logit - largest));
  let left = random.unit() * weights.reduce((sum, weight) => sum + weight, 0);
  const drawn = weights.findIndex((weight) => {
    left -= weight;
    return left < 0;
  });
  return drawn < 0 ? logits.length - 1 : drawn; // rounding may leave a rest
}
