/** The parts of an evaluation that only some methods go through: far past the trained context, and long decoding. */
import { isMaintained, isWindowed, type Method } from "../cache/method.js";
import { SpindleKVError } from "../errors.js";
import { longText } from "../eval/held-out.js";
import { progressDisplay } from "../eval/index.js";
import { memoryOfDecode } from "../eval/long-decode.js";
import { lossByPosition } from "../eval/long-text.js";
import { full } from "../methods/full.js";
import type { Setup } from "./eval-measure.js";
import type { EvalMethod } from "./eval-methods.js";
import { countFrom } from "./eval-setup.js";

/** The long text is so many times the trained context, the caps are a fraction of it. */
const kLongContexts = 4;
const kLongBlocks = 32;
const kLongCapShare = 0.25;
const kLongPiece = 32;
const kLongTexts = 2;
const kLongSeed = 700_000_000; // apart from those of prompts and held-out texts
const kLongSeedStride = 1_000_000;

const kDecodeTokens = 2000;
const kDecodeSamples = 50;
const kDecodePrompt = 512;
const kDecodeCap = 256; // slots, or the same share of the context as above where that is less
const kDecodeSeed = 600_000_000;

/** One method of an experiment with a cap in tokens. */
interface Capped {
  readonly label: string;
  readonly method: Method;
}

/**
 * The methods tried that fit, with a cap, and `full` in front to compare them with; none where none fits. Words of the
 * option `variant` are tried one by one.
 */
function capped(
  methods: readonly EvalMethod[],
  tokens: number,
  isWanted: (method: Method) => boolean,
  variant?: string,
): Capped[] {
  const specs = [...new Set(methods.map(({ spec }) => spec))];
  const all = specs.flatMap(({ name, options, make }): Capped[] => {
    if (!options.some((option) => option.name === "tokens")) return [];
    const words = options.find((option) => option.name === variant)?.type;
    const variants = Array.isArray(words)
      ? words.map((word) => ({
          label: `${name}:${variant}=${word}`,
          own: { [String(variant)]: word },
        }))
      : [{ label: name, own: {} }];
    return variants.flatMap(({ label, own }) => {
      const method = tryMake(() => make({ tokens, ...own }));
      return method === undefined || !isWanted(method) ? [] : [{ label, method }];
    });
  });
  return all.length === 0 ? [] : [{ label: "full", method: full() }, ...all];
}

/** Undefined where the method takes no cap in tokens alone. */
function tryMake(make: () => Method): Method | undefined {
  try {
    return make();
  } catch (error) {
    if (error instanceof SpindleKVError) return undefined;
    throw error;
  }
}

/** Full, and the methods by position that hold a cap with every append. */
export async function measureLongTexts(setup: Setup): Promise<void> {
  const { model, tokenizer, journal, caches, stderr } = setup;
  const { contextLength } = model.config;
  const tokens = kLongContexts * contextLength;
  const cap = Math.floor(kLongCapShare * contextLength);
  const runs = capped(setup.methods, cap, isWindowed, "positions").flatMap((each) =>
    countFrom(0, kLongTexts).map((text) => ({ ...each, text })),
  );
  const open = runs.filter(({ label, text }) => !journal.has("long-text", `${text}/${label}`));
  stderr.write(`${tokens} tokens, past the trained context, caps of ${cap}\n`);
  const show = progressDisplay(stderr);
  const total = open.length * kLongBlocks;
  for (const [i, { label, method, text }] of open.entries()) {
    const blocks = await lossByPosition({
      model,
      tokens: longText(tokenizer, kLongSeed + text * kLongSeedStride, tokens),
      cache: caches.open(method),
      blockTokens: tokens / kLongBlocks,
      pieceTokens: kLongPiece,
      onBlock: (done) => show({ done: i * kLongBlocks + done, total, label }),
    });
    journal.add("long-text", `${text}/${label}`, { method: label, text, blocks });
  }
}

/** Full, and every method that can hold a cap while it decodes. */
export async function measureLongDecodes(setup: Setup): Promise<void> {
  const { model, tokenizer, journal, caches, stderr } = setup;
  const cap = Math.min(kDecodeCap, Math.floor(kLongCapShare * model.config.contextLength));
  const promptTokens = Math.min(kDecodePrompt, Math.floor(model.config.contextLength / 2));
  const prompt = longText(tokenizer, kDecodeSeed, promptTokens);
  const holdsCap = (method: Method) => isWindowed(method) || isMaintained(method);
  const runs = capped(setup.methods, cap, holdsCap).filter(
    ({ label }) => !journal.has("long-decode", label),
  );
  stderr.write(`${kDecodeTokens} tokens decoded, caps of ${cap}\n`);
  const show = progressDisplay(stderr);
  const total = runs.length * kDecodeTokens;
  for (const [i, { label, method }] of runs.entries()) {
    const samples = await memoryOfDecode({
      ...{ model, prompt },
      cache: caches.open(method),
      steps: kDecodeTokens,
      every: kDecodeTokens / kDecodeSamples,
      seed: 1,
      onSample: (step) => show({ done: i * kDecodeTokens + step, total, label }),
    });
    journal.add("long-decode", label, { method: label, samples });
  }
}
