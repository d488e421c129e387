/** The results of `spindlekv eval`, condensed: what the report holds, and its JSON. eval-page.ts shows it. */
import type { TrialChoice } from "./choices.js";
import type { CacheContents } from "./contents.js";
import { compareAtEqualBytes, type EqualBytes, type Pairing } from "./equal-bytes.js";
import type { MemorySample } from "./long-decode.js";
import type { LossBlock } from "./long-text.js";
import { type NeedleCell, needleCells } from "./needle-map.js";
import type { TextTrial } from "./perplexity.js";
import type { PromptPlace } from "./prompts.js";
import { type SummaryRow, summarize } from "./summary.js";
import { type TextRow, summarizeTexts } from "./text-summary.js";
import { type Protocol, protocols, type Trial } from "./trials.js";

/** A method that could not be tried, in whole or at a keep value. */
export interface NotRun extends TrialChoice {
  readonly reason: string;
  /** Measurements that are missing for it. */
  readonly count: number;
}

/** Loss by position of one method over several texts. */
export interface LongTextRun {
  readonly method: string;
  readonly text: number;
  readonly blocks: readonly LossBlock[];
}

export interface LongDecodeRun {
  readonly method: string;
  readonly samples: readonly MemorySample[];
}

/** What was measured. */
export interface EvalResults {
  readonly trials: readonly Trial[];
  readonly texts: readonly TextTrial[];
  /** Of one prompt with the question hidden. */
  readonly contents: readonly CacheContents[];
  readonly longTexts: readonly LongTextRun[];
  readonly longDecodes: readonly LongDecodeRun[];
  readonly notRun: readonly NotRun[];
}

/** What was run. */
export interface EvalAbout {
  readonly title: string;
  readonly device: string;
  readonly model: string;
  readonly settings: Readonly<Record<string, string | number>>;
  /** Tokens of the longest sequence that the model was trained on. */
  readonly contextLength: number;
  readonly places: readonly PromptPlace[];
  /** The prompt of `contents`. */
  readonly shownPrompt: number;
}

/** Everything but the single trials, which the journal has. */
export interface EvalReport extends EvalAbout {
  readonly rows: readonly SummaryRow[];
  readonly texts: readonly TextRow[];
  /** At equal measured bytes, by protocol. */
  readonly comparisons: readonly ({ readonly protocol: Protocol } & EqualBytes<
    "recall" | "logProbability"
  >)[];
  readonly textComparisons: readonly EqualBytes<"loss">[];
  readonly cells: readonly NeedleCell[];
  /** Slots and bytes by [layer][KV head] of one prompt. */
  readonly heads: readonly (TrialChoice & {
    readonly slots: readonly (readonly number[])[];
    readonly bytes: readonly (readonly number[])[];
  })[];
  readonly longTexts: readonly LongTextRun[];
  readonly longDecodes: readonly LongDecodeRun[];
  readonly notRun: readonly NotRun[];
}

/** Condenses the results. @param pairings what to compare at equal bytes */
export function makeEvalReport(
  about: EvalAbout,
  results: EvalResults,
  pairings: readonly Pairing[],
): EvalReport {
  const { trials, texts, contents, longTexts, longDecodes, notRun } = results;
  const answers = (protocol: Protocol) =>
    trials
      .filter((trial) => trial.protocol === protocol)
      .map(({ method, keep, prompt, bytes, isRecalled, logProbability }) => ({
        ...{ method, keep, bytes, unit: prompt },
        values: { recall: Number(isRecalled), logProbability },
      }));
  const losses = texts.map(({ method, keep, text, bytes, loss }) => ({
    ...{ method, keep, bytes, unit: text },
    values: { loss },
  }));
  return {
    ...about,
    rows: summarize(trials),
    texts: summarizeTexts(texts),
    comparisons: protocols.flatMap((protocol) => {
      const measured = answers(protocol);
      return pairings.flatMap((pairing) =>
        compareAtEqualBytes(measured, pairing).map((each) => ({ protocol, ...each })),
      );
    }),
    textComparisons: pairings.flatMap((pairing) => compareAtEqualBytes(losses, pairing)),
    cells: needleCells(trials, about.places),
    heads: contents.map(({ method, keep, layers }) => ({
      ...{ method, keep },
      slots: layers.map((heads) => heads.map(({ slots }) => slots)),
      bytes: layers.map((heads) => heads.map(({ bytes }) => bytes)),
    })),
    longTexts,
    longDecodes,
    notRun,
  };
}

/** A row a line: small enough to keep, and a diff shows what changed. */
export function evalReportJson(report: EvalReport): string {
  const fields = Object.entries(report).map(([name, value]) => {
    const text = Array.isArray(value)
      ? `[${value.map((item) => `\n  ${JSON.stringify(item, shorten)}`).join(",")}\n ]`
      : JSON.stringify(value);
    return ` ${JSON.stringify(name)}: ${text}`;
  });
  return `{\n${fields.join(",\n")}\n}\n`;
}

/** Six digits say more than any interval here allows. */
function shorten(_name: string, value: unknown): unknown {
  return typeof value === "number" && !Number.isInteger(value)
    ? Number(value.toPrecision(6))
    : value;
}
