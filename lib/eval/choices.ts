/** Methods and keep values to try, and one try of each: a fork of a prefilled cache, compressed. */
import { SpindleKVError } from "../errors.js";
import type { AttentionCache } from "../runtimes/gguf-llama/cache-port.js";

/** A method by name and the fraction of the native bytes it may keep; null where it sets its own size. */
export interface TrialChoice {
  readonly method: string;
  readonly keep: number | null;
}

/** A method to try: at every keep value, or once if it has no target. */
export interface TrialMethod {
  readonly name: string;
  readonly hasTarget: boolean;
}

export interface TrialBytes {
  readonly total: number;
  readonly perLayer: readonly number[];
}

/** A cache under test: what `KVCache` offers, narrowed to what a trial uses. */
export interface TrialCache extends AttentionCache {
  /** An independent continuation; with a choice, one that `compress` compresses that way. */
  fork(choice?: TrialChoice): TrialCache;
  compress(): Promise<void>;
  /** Bytes held now, everything counted: in total and by layer. */
  stats(): TrialBytes;
  dispose(): void;
}

/** The model under test; `LlamaModel` is one. */
export interface TrialModel {
  readonly config: {
    readonly layers: number;
    readonly kvHeads: number;
    readonly headDim: number;
    readonly vocabulary: number;
  };
  forward(
    tokens: Int32Array,
    cache: AttentionCache,
    options: { readonly logits: "last" | "all" },
  ): Promise<Float32Array>;
}

/** Every method with every keep value, methods in their order. */
export function choicesOf(
  methods: readonly TrialMethod[],
  keeps: readonly number[],
): TrialChoice[] {
  return methods.flatMap(({ name, hasTarget }) =>
    (hasTarget ? keeps : [null]).map((keep) => ({ method: name, keep })),
  );
}

/** A choice for a person to read. */
export function nameOf({ method, keep }: TrialChoice): string {
  return keep === null ? method : `${method} keep ${keep}`;
}

/** Codes that say "not with this input or target", as opposed to something having gone wrong. */
const kRefusals = new Set([
  "ERR_SPINDLEKV_ARGUMENT",
  "ERR_SPINDLEKV_MISSING_INPUT",
  "ERR_SPINDLEKV_UNSUPPORTED",
]);

function isRefusal(error: unknown): error is SpindleKVError {
  return error instanceof SpindleKVError && kRefusals.has(error.code);
}

/** Called where a method says that it cannot do what is asked; without it a run fails with that error. */
export type RefusalListener<Key extends TrialChoice> = (
  key: Key,
  error: SpindleKVError,
) => void | Promise<void>;

export interface CompressedFork {
  readonly cache: TrialCache;
  readonly compressMs: number;
}

/**
 * A fork of `base`, compressed by the choice; the caller disposes it. Nothing where the method refused and `onRefusal`
 * was told so.
 *
 * @throws whatever `fork` and `compress` throw; no cache is left open then
 */
export async function compressFork<Key extends TrialChoice>(
  base: TrialCache,
  key: Key,
  onRefusal?: RefusalListener<Key>,
): Promise<CompressedFork | undefined> {
  let cache: TrialCache | undefined;
  try {
    cache = base.fork(key);
    const start = performance.now();
    await cache.compress();
    return { cache, compressMs: performance.now() - start };
  } catch (error) {
    cache?.dispose();
    if (onRefusal === undefined || !isRefusal(error)) throw error;
    await onRefusal(key, error);
    return undefined;
  }
}

/** Bytes of one layer of a native f16 cache: K and V, two bytes each. */
export function nativeLayerBytes({ config }: TrialModel, tokens: number): number {
  return tokens * config.kvHeads * config.headDim * 2 * 2;
}

/** Where the largest logit is; the first of equals. */
export function argmax(row: Float32Array): number {
  let best = 0;
  for (let i = 1; i < row.length; i++) if (row[i] > row[best]) best = i;
  return best;
}

/** Natural logarithm of a token's probability. */
export function logSoftmax(row: Float32Array, token: number): number {
  const largest = row[argmax(row)];
  let sum = 0;
  for (const logit of row) sum += Math.exp(logit - largest);
  return row[token] - largest - Math.log(sum);
}
