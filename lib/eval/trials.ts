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
import {
  argmax,
  choicesOf,
  compressFork,
  logSoftmax,
  nameOf,
  nativeLayerBytes,
  type RefusalListener,
  type TrialCache,
  type TrialChoice,
  type TrialMethod,
  type TrialModel,
} from "./choices.js";
import type { NeedleTokens } from "./needle.js";
import { median } from "./statistics.js";

/** The protocols in the order they are run and shown. */
export const protocols = ["hidden", "visible"] as const;
export type Protocol = (typeof protocols)[number];

/** Which trial: a method at a keep value on one prompt in one protocol. */
export interface TrialKey extends TrialChoice {
  /** Index of the prompt. */
  readonly prompt: number;
  readonly protocol: Protocol;
}

/** What happened in one trial. */
export interface Trial extends TrialKey {
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
  /** Whether a trial is known from before: it is not run again. Default: none is. */
  readonly isDone?: (key: TrialKey) => boolean;
  /** Called with each trial when it is through. */
  readonly onTrial?: (trial: Trial) => void | Promise<void>;
  /** Called right after compression, before the question. */
  readonly onCompressed?: (key: TrialKey, cache: TrialCache) => Promise<void>;
  readonly onRefusal?: RefusalListener<TrialKey>;
}

export interface TrialProgress {
  /** Trials finished and trials in all. */
  readonly done: number;
  readonly total: number;
  /** What comes next, for a person to read. */
  readonly label: string;
}

/** Runs every combination that is not done; trials come back in the order they ran. @throws whatever the cache throws */
export async function runTrials(options: RunTrialsOptions): Promise<Trial[]> {
  const { model, prompts, methods, keeps, onProgress } = options;
  const choices = choicesOf(methods, keeps);
  const isOpen = (key: TrialKey) => options.isDone?.(key) !== true;
  const open = prompts.map((_, prompt) =>
    (options.protocols ?? protocols)
      .map((protocol) => ({
        protocol,
        keys: choices.map((choice) => ({ prompt, protocol, ...choice })).filter(isOpen),
      }))
      .filter(({ keys }) => keys.length > 0),
  );
  const total = open.flat().reduce((sum, { keys }) => sum + keys.length, 0);
  const trials: Trial[] = [];
  let done = 0;
  for (const [prompt, tokens] of prompts.entries()) {
    if (open[prompt].length === 0) continue;
    const report = (label: string) =>
      onProgress?.({ done, total, label: `prompt ${prompt + 1}, ${label}` });
    report("prefill");
    const context = options.openCache();
    try {
      await model.forward(tokens.context, context, { logits: "last" });
      for (const { protocol, keys } of open[prompt]) {
        const base = context.fork();
        try {
          const { seen, rest } = split(tokens, protocol);
          if (seen.length > 0) await model.forward(seen, base, { logits: "last" });
          const length = tokens.context.length + seen.length;
          for (const key of keys) {
            report(nameOf(key));
            const trial = await runTrial(options, base, key, length, rest, tokens.answer);
            if (trial !== undefined) {
              trials.push(trial);
              await options.onTrial?.(trial);
            }
            done++;
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

/** One fork, compressed and asked; nothing where the method refused. */
async function runTrial(
  options: RunTrialsOptions,
  base: TrialCache,
  key: TrialKey,
  length: number,
  question: Int32Array,
  answer: Int32Array,
): Promise<Trial | undefined> {
  const fork = await compressFork(base, key, options.onRefusal);
  if (fork === undefined) return undefined;
  const { cache, compressMs } = fork;
  try {
    const bytes = cache.stats();
    await options.onCompressed?.(key, cache);
    const native = nativeLayerBytes(options.model, length);
    return {
      ...key,
      tokens: length,
      bytes: bytes.total / (native * bytes.perLayer.length),
      layerBytes: bytes.perLayer.map((layer) => layer / native),
      ...(await ask(options, cache, question, answer)),
      compressMs,
    };
  } finally {
    cache.dispose();
  }
}

/** Asks a compressed cache and times a few steps behind the answer. */
async function ask(
  { model, decodeSteps = 3 }: RunTrialsOptions,
  cache: TrialCache,
  question: Int32Array,
  answer: Int32Array,
) {
  const { vocabulary } = model.config;
  const timed = timeAttention(cache);
  const input = Int32Array.from([...question, ...answer.subarray(0, -1)]);
  const logits = await model.forward(input, timed.cache, { logits: "all" });
  const rowAfter = (token: number) => logits.subarray(token * vocabulary, (token + 1) * vocabulary);
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
  return { isRecalled, logProbability, decodeMs: median(decodeMs), attendMs: median(attendMs) };
}

/** The same cache, with a clock around its attention; whatever else its layers offer stays as it is. */
function timeAttention(cache: TrialCache) {
  let elapsed = 0;
  const layers = cache.layers.map((layer) => {
    const attend: typeof layer.attend = async (...args) => {
      const start = performance.now();
      await layer.attend(...args);
      elapsed += performance.now() - start;
    };
    return new Proxy(layer, {
      get: (target, name) => {
        if (name === "attend") return attend;
        const member: unknown = Reflect.get(target, name);
        return typeof member === "function" ? member.bind(target) : member;
      },
    });
  });
  return {
    cache: { layers, maintain: async () => cache.maintain?.() },
    elapsedMs: () => elapsed,
  };
}
