/** Condenses perplexity measurements: one row per method and keep value. */
import type { TrialChoice } from "./choices.js";
import { groupBy } from "./group.js";
import type { TextTrial } from "./perplexity.js";
import { bootstrapMean, type Estimate, mean } from "./statistics.js";

export interface TextRow extends TrialChoice {
  readonly texts: number;
  /** Mean bytes as a fraction of native f16, with the smallest and largest. */
  readonly bytes: Estimate;
  /** exp of the mean loss over the texts, with the bootstrap interval over the texts. */
  readonly perplexity: Estimate;
}

export function summarizeTexts(trials: readonly TextTrial[]): TextRow[] {
  const groups = groupBy(trials, ({ method, keep }) => `${method}/${keep}`);
  return [...groups.values()].map((group) => {
    const { method, keep } = group[0];
    const bytes = group.map((trial) => trial.bytes);
    const loss = bootstrapMean(group.map((trial) => trial.loss));
    return {
      method,
      keep,
      texts: group.length,
      bytes: { value: mean(bytes), low: Math.min(...bytes), high: Math.max(...bytes) },
      perplexity: {
        value: Math.exp(loss.value),
        low: Math.exp(loss.low),
        high: Math.exp(loss.high),
      },
    };
  });
}
