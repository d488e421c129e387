/** `spindlekv eval`: perplexity and needle recall of methods at byte budgets, on a model in a GGUF file. */
import { writeFile } from "node:fs/promises";
import { basename, join } from "node:path";
import { queriesOf } from "../cache/method.js";
import { type Device, openDevice } from "../device.js";
import { nameOf } from "../eval/choices.js";
import type { CacheContents } from "../eval/contents.js";
import type { Pairing } from "../eval/equal-bytes.js";
import { evalReportHtml } from "../eval/eval-page.js";
import {
  type EvalResults,
  evalReportJson,
  type LongDecodeRun,
  type LongTextRun,
  makeEvalReport,
  type NotRun,
} from "../eval/eval-report.js";
import { groupBy } from "../eval/group.js";
import { type ProgressStream, resultTable, type Trial, type TrialChoice } from "../eval/index.js";
import type { Journal } from "../eval/journal.js";
import type { TextTrial } from "../eval/perplexity.js";
import { placesOf } from "../eval/prompts.js";
import { textTable } from "../eval/table.js";
import { loadGgufLlama } from "../runtimes/gguf-llama/index.js";
import { evalCaches } from "./eval-caches.js";
import { measureLongDecodes, measureLongTexts } from "./eval-experiments.js";
import { measureNeedles, measureTexts, type Setup } from "./eval-measure.js";
import { type EvalMethod, makeEvalMethod, policyOf } from "./eval-methods.js";
import type { EvalRequest } from "./eval-options.js";
import {
  anyOf,
  lengthsOf,
  makeable,
  openEvalJournal,
  orOutputFailure,
  readable,
  textsOf,
} from "./eval-setup.js";

/**
 * Runs the command.
 *
 * @param stderr takes the progress
 * @returns what to print: the tables and where the report is
 * @throws {SpindleKVError} of every kind; what was measured is in the journal
 */
export async function evaluate(request: EvalRequest, stderr: ProgressStream): Promise<string> {
  const { model, tokenizer } = await readable("model", request.model, loadGgufLlama);
  const lengths = lengthsOf(request, model);
  const { made, notMade } = makeable(request.methods);
  using device = await openDevice(request.device);
  const places = placesOf({ ...request, lengths });
  const texts = await textsOf(request, model, tokenizer);
  const journal = await openEvalJournal(request, device, lengths);
  const byLabel = new Map(request.methods.map((method) => [method.label, method]));
  const methodOf = ({ method, keep }: TrialChoice) =>
    makeEvalMethod(byLabel.get(method) as EvalMethod, keep === null ? null : { keep });
  const caches = evalCaches({
    ...{ device, methodOf },
    config: model.config,
    recordQueries: Math.max(1, ...made.map((method) => queriesOf(anyOf(method)))),
  });
  const setup: Setup = {
    ...{ request, model, tokenizer, journal, caches, stderr },
    methods: made,
  };

  stderr.write(
    `${places.length} prompts, ${texts.length} texts, ${made.length} methods on ${device.name}; journal ${journal.path}\n`,
  );
  const shownPrompt = Math.floor(places.length / 2);
  await measureNeedles(setup, places, shownPrompt);
  await measureTexts(setup, texts);
  if (request.experiments.includes("long-text")) await measureLongTexts(setup);
  if (request.experiments.includes("long-decode")) await measureLongDecodes(setup);

  const results: EvalResults = {
    trials: journal.all<Trial>("needle"),
    texts: journal.all<TextTrial>("text"),
    contents: journal.all<CacheContents>("contents"),
    longTexts: journal.all<LongTextRun>("long-text"),
    longDecodes: journal.all<LongDecodeRun>("long-decode"),
    notRun: [...notMade, ...refusals(journal)],
  };
  const about = {
    title: "spindlekv eval: recall and perplexity against measured bytes",
    device: describe(device),
    model: basename(request.model),
    settings: {
      prompts: places.length,
      lengths: lengths.join(", "),
      depths: request.depths.join(", "),
      seeds: request.seeds.join(", "),
      texts: texts.length,
      text: request.textFile === undefined ? "generated" : basename(request.textFile),
      "text tokens": `${texts[0].prompt.length} compressed, ${texts[0].rest.length} predicted`,
    },
    contextLength: model.config.contextLength,
    ...{ places, shownPrompt },
  };
  const report = makeEvalReport(about, results, pairings(request));
  const html = join(request.output, "eval.html");
  const json = join(request.output, "eval.json");
  await orOutputFailure(html, () => writeFile(html, evalReportHtml(report, results.contents)));
  await orOutputFailure(json, () => writeFile(json, evalReportJson(report)));
  const missing = report.notRun.map((each) => `not run: ${nameOf(each)}: ${each.reason}`);
  return [
    resultTable(report.rows),
    textTable(report.texts),
    ...(missing.length > 0 ? [missing.join("\n")] : []),
    `Report: ${html}, ${json}; every measurement: ${journal.path}`,
  ].join("\n\n");
}

/** The subjects with every other method, and methods over a policy with the policy alone. */
function pairings({ subjects, methods }: EvalRequest): Pairing[] {
  const overPolicies = methods.flatMap((method) => {
    const policy = policyOf(method, methods);
    return policy === undefined ? [] : [{ method: method.label, baseline: policy.label }];
  });
  return [...subjects.map((method) => ({ method })), ...overPolicies];
}

function describe(device: Device): string {
  const { name, threads } = device.info();
  return `${device.name} (${name}, ${threads} threads)`;
}

/** What methods refused, by choice and with the first reason. */
function refusals(journal: Journal): NotRun[] {
  const all = journal.all<TrialChoice & { reason: string }>("refusal");
  const groups = groupBy(all, ({ method, keep }) => `${method}/${keep}`);
  return [...groups.values()].map((group) => ({ ...group[0], count: group.length }));
}
