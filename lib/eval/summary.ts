/** Condenses trials: one row per method, keep value and protocol, and paired comparisons between methods. */
import {
  bootstrapMean,
  type Estimate,
  mean,
  median,
  pairedDifference,
  wilson,
} from "./statistics.js";
import type { TrialChoice } from "./choices.js";
import { groupBy } from "./group.js";
import type { Protocol, Trial } from "./trials.js";

/** All trials of one method at one keep value in one protocol. */
export interface SummaryRow extends TrialChoice {
  readonly protocol: Protocol;
  readonly trials: number;
  /** Mean bytes as a fraction of native f16, with the smallest and largest. */
  readonly bytes: Estimate;
  /** Mean fraction of its native bytes that each layer kept. */
  readonly layerBytes: readonly number[];
  /** Fraction recalled, Wilson 95 %. */
  readonly recall: Estimate;
  /** Mean log-probability of the answer, bootstrap 95 %. */
  readonly logProbability: Estimate;
  readonly tokensPerSecond: number;
  /** Median milliseconds of a decoding step spent in attention. */
  readonly attendMs: number;
  readonly compressMs: number;
}

/** One method against another on the same prompts at the same keep value. */
export interface Comparison {
  readonly protocol: Protocol;
  readonly keep: number;
  readonly method: string;
  readonly baseline: string;
  /** Mean difference (method - baseline) of the answer's log-probability, bootstrap 95 %. */
  readonly logProbability: Estimate;
  /** Mean difference in recall, bootstrap 95 %. */
  readonly recall: Estimate;
}

/** One row per (protocol, method, keep), in the order of first appearance within each protocol. */
export function summarize(trials: readonly Trial[]): SummaryRow[] {
  const groups = groupTrials(trials);
  return [...groups.values()].map((group) => {
    const { method, keep, protocol } = group[0];
    const bytes = group.map((trial) => trial.bytes);
    return {
      method,
      keep,
      protocol,
      trials: group.length,
      bytes: { value: mean(bytes), low: Math.min(...bytes), high: Math.max(...bytes) },
      layerBytes: group[0].layerBytes.map((_, layer) =>
        mean(group.map((trial) => trial.layerBytes[layer])),
      ),
      recall: wilson(group.filter((trial) => trial.isRecalled).length, group.length),
      logProbability: bootstrapMean(group.map((trial) => trial.logProbability)),
      tokensPerSecond: 1000 / median(group.map((trial) => trial.decodeMs)),
      attendMs: median(group.map((trial) => trial.attendMs)),
      compressMs: median(group.map((trial) => trial.compressMs)),
    };
  });
}

/** `method` against each other method that ran at the same keep values. */
export function compare(trials: readonly Trial[], method: string): Comparison[] {
  const groups = groupTrials(trials);
  const comparisons: Comparison[] = [];
  for (const ours of groups.values()) {
    const { protocol, keep } = ours[0];
    if (ours[0].method !== method || keep === null) continue;
    for (const theirs of groups.values()) {
      const other = theirs[0];
      if (other.method === method || other.keep !== keep || other.protocol !== protocol) continue;
      const partner = new Map(theirs.map((trial) => [trial.prompt, trial]));
      const pairs = ours.flatMap((our) => {
        const their = partner.get(our.prompt);
        return their === undefined ? [] : [{ our, their }];
      });
      const difference = (of: (trial: Trial) => number) =>
        pairedDifference(
          pairs.map(({ our }) => of(our)),
          pairs.map(({ their }) => of(their)),
        );
      comparisons.push({
        protocol,
        keep,
        method,
        baseline: other.method,
        logProbability: difference((trial) => trial.logProbability),
        recall: difference((trial) => Number(trial.isRecalled)),
      });
    }
  }
  return comparisons;
}

function groupTrials(trials: readonly Trial[]): Map<unknown, Trial[]> {
  return groupBy(trials, ({ protocol, method, keep }) => `${protocol}/${method}/${keep}`);
}
