/** The measurements of an evaluation that every method and keep value goes through; each is in the journal when it is done. */
import {
  type ProgressStream,
  progressDisplay,
  runTrials,
  type TrialChoice,
} from "../eval/index.js";
import type { Journal } from "../eval/journal.js";
import { type HeldOutText, runTexts } from "../eval/perplexity.js";
import { type PromptPlace, promptAt } from "../eval/prompts.js";
import type { LlamaModel, Tokenizer } from "../runtimes/gguf-llama/index.js";
import type { EvalCache, EvalCaches } from "./eval-caches.js";
import type { EvalMethod } from "./eval-methods.js";
import type { EvalRequest } from "./eval-options.js";

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

const trialMethods = ({ methods }: Setup) =>
  methods.map(({ label, hasTarget }) => ({ name: label, hasTarget }));

export async function measureNeedles(
  setup: Setup,
  places: readonly PromptPlace[],
  shownPrompt: number,
): Promise<void> {
  const { request, model, tokenizer, journal, caches, stderr } = setup;
  const key = (each: TrialChoice & { prompt: number; protocol: string }) =>
    keyOf(`${each.prompt}/${each.protocol}`, each);
  stderr.write("needle recall\n");
  await runTrials({
    model,
    prompts: places.map((place) => promptAt(tokenizer, place)),
    methods: trialMethods(setup),
    keeps: request.keeps,
    protocols: request.protocols,
    openCache: caches.openBase,
    decodeSteps: kDecodeSteps,
    isDone: (each) =>
      journal.has("needle", key(each)) || journal.has("refusal", `needle/${key(each)}`),
    onTrial: (trial) => journal.add("needle", key(trial), trial),
    onCompressed: async ({ prompt, protocol, method, keep }, cache) => {
      if (prompt !== shownPrompt || protocol !== request.protocols[0]) return;
      const contents = await (cache as EvalCache).contents();
      journal.add("contents", keyOf(prompt, { method, keep }), { method, keep, ...contents });
    },
    onRefusal: ({ method, keep, ...each }, error) =>
      journal.add("refusal", `needle/${key({ method, keep, ...each })}`, {
        ...{ method, keep },
        reason: error.message,
      }),
    onProgress: progressDisplay(stderr),
  });
}

export async function measureTexts(setup: Setup, texts: readonly HeldOutText[]): Promise<void> {
  const { request, model, journal, caches, stderr } = setup;
  stderr.write("perplexity of held-out text\n");
  await runTexts({
    ...{ model, texts },
    methods: trialMethods(setup),
    keeps: request.keeps,
    openCache: caches.openBase,
    isDone: (each) =>
      journal.has("text", keyOf(each.text, each)) ||
      journal.has("refusal", `text/${keyOf(each.text, each)}`),
    onTrial: (trial) => journal.add("text", keyOf(trial.text, trial), trial),
    onRefusal: ({ text, method, keep }, error) =>
      journal.add("refusal", `text/${keyOf(text, { method, keep })}`, {
        ...{ method, keep },
        reason: error.message,
      }),
    onProgress: progressDisplay(stderr),
  });
}
