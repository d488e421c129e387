/** Evaluation: needle prompts, statistics, trials of methods on a model, reports. */
export {
  type Needle,
  type NeedleOptions,
  type NeedleTokenizer,
  type NeedleTokens,
  needle,
  tokenizeNeedle,
} from "./needle.ts";
export { Random } from "./random.ts";
export {
  type BootstrapOptions,
  bootstrapMean,
  type Estimate,
  mean,
  median,
  pairedDifference,
  quantile,
  wilson,
} from "./statistics.ts";
export { type ProgressStream, progressDisplay } from "./progress.ts";
export { makeReport, type Report, reportHtml, reportJson } from "./report.ts";
export { type Comparison, compare, type SummaryRow, summarize } from "./summary.ts";
export { comparisonTable, formatTable, resultTable } from "./table.ts";
export {
  type Protocol,
  protocols,
  type RunTrialsOptions,
  runTrials,
  type Trial,
  type TrialBytes,
  type TrialCache,
  type TrialChoice,
  type TrialMethod,
  type TrialModel,
  type TrialProgress,
} from "./trials.ts";
