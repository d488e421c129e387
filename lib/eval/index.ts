/** Evaluation: needle prompts, held-out text, statistics, trials of methods on a model, comparisons, reports. */
export {
  type Needle,
  type NeedleOptions,
  type NeedleTokenizer,
  type NeedleTokens,
  needle,
  tokenizeNeedle,
} from "./needle.js";
export { type ProfileHeadsOptions, profileHeads } from "./profile.js";
export { Random } from "./random.js";
export {
  type BootstrapOptions,
  bootstrapMean,
  type Estimate,
  mean,
  median,
  pairedDifference,
  quantile,
  wilson,
} from "./statistics.js";
export { type ProgressStream, progressDisplay } from "./progress.js";
export { makeReport, type Report, reportHtml, reportJson } from "./report.js";
export { type Comparison, compare, type SummaryRow, summarize } from "./summary.js";
export { comparisonTable, formatTable, resultTable } from "./table.js";
export {
  type Protocol,
  protocols,
  type RunTrialsOptions,
  runTrials,
  type Trial,
  type TrialKey,
  type TrialProgress,
} from "./trials.js";
export type { TrialBytes, TrialCache, TrialChoice, TrialMethod, TrialModel } from "./choices.js";
export {
  compareAtEqualBytes,
  type EqualBytes,
  type Measured,
  type Pairing,
} from "./equal-bytes.js";
export { generatedTexts, longText, ownTexts, type TextLengths } from "./held-out.js";
export {
  type CacheMemory,
  type LongDecodeOptions,
  type MeasuredCache,
  type MemorySample,
  memoryOfDecode,
} from "./long-decode.js";
export { type LongTextOptions, type LossBlock, lossByPosition } from "./long-text.js";
export {
  type HeldOutText,
  type RunTextsOptions,
  runTexts,
  type TextKey,
  type TextTrial,
} from "./perplexity.js";
export { type PromptPlace, type PromptPlan, placesOf, promptAt } from "./prompts.js";
export { summarizeTexts, type TextRow } from "./text-summary.js";
