/** The measurements of an evaluation that every method and keep value goes through; each is in the journal when it is done. */
import { type ScorePart, sumsOf } from "../cache/method.js";
import type { SpindleKVError } from "../errors.js";
import {
  type ProgressStream,
  progressDisplay,
  runTrials,
  type TrialChoice,
  type TrialKey,
  type TrialMethod,
} from "../eval/index.js";
import type { Journal } from "../eval/journal.js";
import { type HeldOutText, runTexts, type TextKey } from "../eval/perplexity.js";
import { type PromptPlace, promptAt } from "../eval/prompts.js";
import type { LlamaModel, Tokenizer } from "../runtimes/gguf-llama/index.js";
import type { EvalCache, EvalCaches } from "./eval-caches.js";
import type { EvalMethod } from "./eval-methods.js";
import type { EvalRequest } from "./eval-options.js";
import { anyOf } from "./eval-setup.js";

const kDecodeSteps = 5;

/** What the measurements work with. */
export interface Setup {
  readonly request: EvalRequest;
  readonly model: LlamaModel;
  readonly tokenizer: Tokenizer;
  readonly journal: Journal;
  readonly caches: EvalCaches;
  /** Methods that can be made of a target. */
  readonly methods: readonly EvalMethod[];
  readonly stderr: ProgressStream;
}

const keyOf = (unit: string | number, { method, keep }: TrialChoice) => `${unit}/${method}/${keep}`;

/** Methods whose forks continue one kind of base cache: attention is summed up per query head or per KV head. */
interface BaseGroup {
  readonly sums: ScorePart["sums"];
  readonly methods: readonly TrialMethod[];
}

/** As few groups as there can be: methods without sums go with those that have some. */
function baseGroups(methods: readonly EvalMethod[]): BaseGroup[] {
  const sums = new Map(methods.map((method) => [method, sumsOf(anyOf(method))]));
  const kinds = (["query-head", "kv-head"] as const).filter((kind) =>
    [...sums.values()].includes(kind),
  );
  const present = kinds.length > 0 ? kinds : (["none"] as const);
  return present.map((kind, i) => ({
    sums: kind,
    methods: methods
      .filter((method) => sums.get(method) === kind || (i === 0 && sums.get(method) === "none"))
      .map(({ label, hasTarget }) => ({ name: label, hasTarget })),
  }));
}

/** Needle recall: every prompt, protocol, method and keep value. */
export async function measureNeedles(
  setup: Setup,
  places: readonly PromptPlace[],
  shownPrompt: number,
): Promise<void> {
  const { request, model, tokenizer, journal, caches, stderr } = setup;
  const key = (each: TrialKey) => keyOf(`${each.prompt}/${each.protocol}`, each);
  const prompts = places.map((place) => promptAt(tokenizer, place));
  for (const { sums, methods } of baseGroups(setup.methods)) {
    stderr.write(`needle recall, ${methods.length} methods\n`);
    await runTrials({
      ...{ model, prompts, methods },
      keeps: request.keeps,
      protocols: request.protocols,
      openCache: () => caches.openBase(sums),
      decodeSteps: kDecodeSteps,
      isDone: (each) => isKnown(journal, "needle", key(each)),
      onTrial: (trial) => journal.add("needle", key(trial), trial),
      onCompressed: async (each, cache) => {
        if (each.prompt !== shownPrompt || each.protocol !== request.protocols[0]) return;
        const { method, keep } = each;
        const contents = await (cache as EvalCache).contents();
        journal.add("contents", key(each), { method, keep, ...contents });
      },
      onRefusal: (each, error) => addRefusal(journal, "needle", key(each), each, error),
      onProgress: progressDisplay(stderr),
    });
  }
}

/** Perplexity: every text, method and keep value. */
export async function measureTexts(setup: Setup, texts: readonly HeldOutText[]): Promise<void> {
  const { request, model, journal, caches, stderr } = setup;
  const key = (each: TextKey) => keyOf(each.text, each);
  for (const { sums, methods } of baseGroups(setup.methods)) {
    stderr.write(`perplexity of held-out text, ${methods.length} methods\n`);
    await runTexts({
      ...{ model, texts, methods },
      keeps: request.keeps,
      openCache: () => caches.openBase(sums),
      isDone: (each) => isKnown(journal, "text", key(each)),
      onTrial: (trial) => journal.add("text", key(trial), trial),
      onRefusal: (each, error) => addRefusal(journal, "text", key(each), each, error),
      onProgress: progressDisplay(stderr),
    });
  }
}

/** A refusal is an outcome too: it is not tried again. */
function isKnown(journal: Journal, kind: string, key: string): boolean {
  return journal.has(kind, key) || journal.has("refusal", `${kind}/${key}`);
}

function addRefusal(
  journal: Journal,
  kind: string,
  key: string,
  { method, keep }: TrialChoice,
  { message }: SpindleKVError,
): void {
  journal.add("refusal", `${kind}/${key}`, { method, keep, reason: message });
}
