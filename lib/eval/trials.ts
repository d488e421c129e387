/**
 * Runs a model on needle prompts with its cache compressed by each method, and records what it answers,
 * how many bytes the cache holds and how fast it decodes.
 *
 * Two protocols, which differ in what the cache has seen when it is compressed:
 *   hidden   the context alone; the question follows afterwards
 *   visible  context and question but for the last token, as papers on prompt compression measure
 * In both, the compressed cache already produces the first answer token. The context is prefilled once
 * per prompt; every trial works on a fork.
 */
import type { AttentionCache, AttentionLayer } from "../runtimes/gguf-llama/cache-port.js";
import type { NeedleTokens } from "./needle.js";
import { median } from "./statistics.js";

/** The protocols in the order they are run and shown. */
export const protocols = ["hidden", "visible"] as const;
export type Protocol = (typeof protocols)[number];

/** A cache under test: what `KVCache` offers, narrowed to what a trial uses. */
export interface TrialCache extends AttentionCache {
  /** An independent continuation; with a choice, one that `compress` compresses that way. */
  fork(choice?: TrialChoice): TrialCache;
  compress(): Promise<void>;
  /** Bytes held now, everything counted: in total and by layer. */
  stats(): TrialBytes;
  dispose(): void;
}

/** A method by name and the fraction of the native bytes it may keep; null where it sets its own size. */
export interface TrialChoice {
  readonly method: string;
  readonly keep: number | null;
}

export interface TrialBytes {
  readonly total: number;
  readonly perLayer: readonly number[];
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

/** A method to try: at every keep value, or once if it has no target. */
export interface TrialMethod {
  readonly name: string;
  readonly hasTarget: boolean;
}

/** What happened in one trial. */
export interface Trial extends TrialChoice {
  /** Index of the prompt. */
  readonly prompt: number;
  readonly protocol: Protocol;
  /** Tokens in the cache when it was compressed. */
  readonly tokens: number;
  /** Bytes right after compression, as fractions of the native f16 bytes of the same tokens. */
  readonly bytes: number;
  readonly layerBytes: readonly number[];
  /** Every answer token had the largest logit (answer fed as it should be). */
  readonly isRecalled: boolean;
  /** Natural logarithm of the answer's probability. */
  readonly logProbability: number;
  readonly compressMs: number;
  /** Median time of a decoding step, and the part of it that the cache's attention took. */
  readonly decodeMs: number;
  readonly attendMs: number;
}

export interface RunTrialsOptions {
  readonly model: TrialModel;
  readonly prompts: readonly NeedleTokens[];
  readonly methods: readonly TrialMethod[];
  /** Fractions of the native bytes to keep. */
  readonly keeps: readonly number[];
  readonly protocols?: readonly Protocol[];
  /** An empty, uncompressed cache. */
  readonly openCache: () => TrialCache;
  /** Greedy steps timed after the answer. Default 3. */
  readonly decodeSteps?: number;
  readonly onProgress?: (progress: TrialProgress) => void;
}

export interface TrialProgress {
  /** Trials finished and trials in all. */
  readonly done: number;
  readonly total: number;
  /** What comes next, for a person to read. */
  readonly label: string;
}

/** Runs every combination; trials come back in the order they ran. @throws whatever the cache throws */
export async function runTrials(options: RunTrialsOptions): Promise<Trial[]> {
  const { model, prompts, methods, keeps, onProgress } = options;
  const chosen = options.protocols ?? protocols;
  const choices = methods.flatMap(({ name, hasTarget }): TrialChoice[] =>
    (hasTarget ? keeps : [null]).map((keep) => ({ method: name, keep })),
  );
  const total = prompts.length * chosen.length * choices.length;
  const trials: Trial[] = [];
  for (const [prompt, tokens] of prompts.entries()) {
    const report = (label: string) =>
      onProgress?.({ done: trials.length, total, label: `prompt ${prompt + 1}, ${label}` });
    report("prefill");
    const context = options.openCache();
    try {
      await model.forward(tokens.context, context, { logits: "last" });
      for (const protocol of chosen) {
        const base = context.fork();
        try {
          const { seen, rest } = split(tokens, protocol);
          if (seen.length > 0) await model.forward(seen, base, { logits: "last" });
          for (const choice of choices) {
            report(`${choice.method} ${choice.keep ?? ""}`.trim());
            const measured = await runTrial(options, base, choice, rest, tokens.answer);
            const length = tokens.context.length + seen.length;
            trials.push({ prompt, protocol, tokens: length, ...choice, ...measured(length) });
          }
        } finally {
          base.dispose();
        }
      }
    } finally {
      context.dispose();
    }
  }
  onProgress?.({ done: total, total, label: "done" });
  return trials;
}

/** The question's tokens before and after compression; at least the last one comes after. */
function split({ question }: NeedleTokens, protocol: Protocol) {
  const cut = protocol === "hidden" ? 0 : question.length - 1;
  return { seen: question.subarray(0, cut), rest: question.subarray(cut) };
}

/** One fork, compressed and asked. The result still needs the cache's length in tokens. */
async function runTrial(
  { model, decodeSteps = 3 }: RunTrialsOptions,
  base: TrialCache,
  choice: TrialChoice,
  question: Int32Array,
  answer: Int32Array,
) {
  const { layers, kvHeads, headDim, vocabulary } = model.config;
  const cache = base.fork(choice);
  try {
    const compressStart = performance.now();
    await cache.compress();
    const compressMs = performance.now() - compressStart;
    const bytes = cache.stats();

    const timed = timeAttention(cache);
    const input = Int32Array.from([...question, ...answer.subarray(0, -1)]);
    const logits = await model.forward(input, timed.cache, { logits: "all" });
    const rowAfter = (token: number) =>
      logits.subarray(token * vocabulary, (token + 1) * vocabulary);
    let isRecalled = true;
    let logProbability = 0;
    answer.forEach((token, i) => {
      const row = rowAfter(question.length - 1 + i);
      isRecalled &&= argmax(row) === token;
      logProbability += logSoftmax(row, token);
    });

    const decodeMs: number[] = [];
    const attendMs: number[] = [];
    let next = answer[answer.length - 1];
    for (let step = 0; step < decodeSteps; step++) {
      const attendBefore = timed.elapsedMs();
      const start = performance.now();
      next = argmax(await model.forward(Int32Array.of(next), timed.cache, { logits: "last" }));
      decodeMs.push(performance.now() - start);
      attendMs.push(timed.elapsedMs() - attendBefore);
    }
    return (tokens: number) => {
      const nativePerLayer = tokens * kvHeads * headDim * 2 * 2; // K and V, two bytes each
      return {
        bytes: bytes.total / (nativePerLayer * layers),
        layerBytes: bytes.perLayer.map((layer) => layer / nativePerLayer),
        isRecalled,
        logProbability,
        compressMs,
        decodeMs: median(decodeMs),
        attendMs: median(attendMs),
      };
    };
  } finally {
    cache.dispose();
  }
}

/** The same cache, with a clock around its attention. */
function timeAttention(cache: AttentionCache) {
  let elapsed = 0;
  const layers = cache.layers.map(
    (layer): AttentionLayer => ({
      append: (keys, values, tokens) => layer.append(keys, values, tokens),
      attend: async (queries, out, tokens) => {
        const start = performance.now();
        await layer.attend(queries, out, tokens);
        elapsed += performance.now() - start;
      },
    }),
  );
  return { cache: { layers }, elapsedMs: () => elapsed };
}

function argmax(row: Float32Array): number {
  let best = 0;
  for (let i = 1; i < row.length; i++) if (row[i] > row[best]) best = i;
  return best;
}

function logSoftmax(row: Float32Array, token: number): number {
  const largest = row[argmax(row)];
  let sum = 0;
  for (const logit of row) sum += Math.exp(logit - largest);
  return row[token] - largest - Math.log(sum);
}
