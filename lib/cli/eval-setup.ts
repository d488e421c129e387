/** What an evaluation is made of, found out and checked before any measurement. */
import { createHash } from "node:crypto";
import { mkdir, readFile, stat } from "node:fs/promises";
import { basename, join } from "node:path";
import type { Device } from "../device.js";
import { argumentError, SpindleKVError, spindleError } from "../errors.js";
import type { NotRun } from "../eval/eval-report.js";
import { generatedTexts, ownTexts } from "../eval/held-out.js";
import { type Journal, openJournal } from "../eval/journal.js";
import type { HeldOutText } from "../eval/perplexity.js";
import type { LlamaModel, Tokenizer } from "../runtimes/gguf-llama/index.js";
import { type EvalMethod, makeEvalMethod } from "./eval-methods.js";
import { type EvalRequest, evalDefaults } from "./eval-options.js";
import { outputFailure } from "./exit-status.js";

/** Room behind the context for question, answer and the timed steps. */
const kTokensBehind = 64;

/** Held-out texts: tokens that are compressed and tokens that are predicted, at most. */
const kTextPrompt = 1024;
const kTextRest = 256;
/** Seed of the first text, apart from the seeds of prompts. */
export const kTextSeed = 900_000_000;

/** The lengths asked for, or those of the usual ones that fit the trained context. */
export function lengthsOf({ lengths }: EvalRequest, { config }: LlamaModel): number[] {
  const most = config.contextLength - kTokensBehind;
  if (lengths === undefined) {
    const fitting = evalDefaults.lengths
      .split(",")
      .map(Number)
      .filter((length) => length <= most);
    return fitting.length > 0 ? fitting : [most];
  }
  const tooLong = lengths.find((length) => length > most);
  if (tooLong !== undefined) {
    throw argumentError("eval", `at most ${most} tokens with this model`, "lengths", tooLong);
  }
  return [...lengths].sort((a, b) => a - b);
}

/** Any target shows what a method is made of. */
export const anyOf = (method: EvalMethod) =>
  makeEvalMethod(method, method.hasTarget ? { keep: 0.5 } : null);

/** Methods that can be made of a target alone, and why the others cannot. */
export function makeable(methods: readonly EvalMethod[]) {
  const notMade: NotRun[] = [];
  const made = methods.filter((method) => {
    try {
      anyOf(method);
      return true;
    } catch (error) {
      if (!(error instanceof SpindleKVError)) throw error;
      notMade.push({ method: method.label, keep: null, reason: error.message, count: 0 });
      return false;
    }
  });
  return { made, notMade };
}

export async function textsOf(
  { texts, textFile }: EvalRequest,
  { config }: LlamaModel,
  tokenizer: Tokenizer,
): Promise<HeldOutText[]> {
  const restTokens = Math.min(kTextRest, Math.floor(config.contextLength / 4));
  const promptTokens = Math.min(kTextPrompt, config.contextLength - restTokens);
  const lengths = { promptTokens, restTokens };
  if (textFile === undefined) {
    return generatedTexts(tokenizer, countFrom(kTextSeed, texts), lengths);
  }
  return ownTexts(
    tokenizer,
    await readable("text", textFile, (path) => readFile(path, "utf8")),
    texts,
    lengths,
    textFile,
  );
}

export const countFrom = (first: number, count: number) =>
  Array.from({ length: count }, (_, i) => first + i);

/** What reading an input gives. @throws {SpindleKVError} ERR_SPINDLEKV_FILE naming the flag where it cannot be read */
export async function readable<Result>(
  name: string,
  path: string,
  read: (path: string) => Promise<Result>,
): Promise<Result> {
  try {
    return await read(path);
  } catch (error) {
    if (error instanceof SpindleKVError) throw error;
    const reason = (error as Error).message;
    const message = `eval: expected a readable file for ${name}, got ${JSON.stringify(path)}: ${reason}`;
    throw spindleError("ERR_SPINDLEKV_FILE", "eval", message, error);
  }
}

/** The journal in the output folder; its settings are all that results depend on. */
export async function openEvalJournal(
  request: EvalRequest,
  device: Device,
  lengths: readonly number[],
): Promise<Journal> {
  await orOutputFailure(request.output, () => mkdir(request.output, { recursive: true }));
  const { keeps, prompts, seeds, depths, protocols, texts, experiments } = request;
  const settings = {
    model: await fingerprint(request.model),
    methods: request.methods.map(({ label, options }) => ({ label, options })),
    ...{ keeps, prompts, seeds, lengths, depths, protocols, texts, experiments },
    text: request.textFile === undefined ? null : await fingerprint(request.textFile),
    device: device.name,
  };
  const path = join(request.output, "eval.jsonl");
  return orOutputFailure(path, async () => openJournal(path, settings, request.isResumed));
}

/** A file by what is in it. */
async function fingerprint(path: string): Promise<string> {
  const { size } = await stat(path);
  const hash = createHash("sha256")
    .update(await readFile(path))
    .digest("hex");
  return `${basename(path)}, ${size} bytes, sha256 ${hash}`;
}

export async function orOutputFailure<Result>(
  path: string,
  work: () => Promise<Result>,
): Promise<Result> {
  try {
    return await work();
  } catch (error) {
    throw error instanceof SpindleKVError ? error : outputFailure("eval", path, error);
  }
}
