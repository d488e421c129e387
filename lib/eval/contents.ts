/** What a compressed cache holds, head by head: slots, bytes and positions, in a form that fits a journal. */
import type { TrialChoice } from "./choices.js";

/** One KV head. */
export interface HeadContents {
  readonly slots: number;
  /** Bytes of its arrays, without the slack of pages. */
  readonly bytes: number;
  /** Kept positions as runs, such as "0-3 17 20-21". */
  readonly kept: string;
}

/** A choice on one prompt. */
export interface CacheContents extends TrialChoice {
  /** Tokens in the cache when it was compressed. */
  readonly tokens: number;
  /** [layers][kvHeads] */
  readonly layers: readonly (readonly HeadContents[])[];
}

/** Ascending positions as runs. */
export function runsOf(positions: ArrayLike<number>): string {
  const runs: string[] = [];
  for (let i = 0; i < positions.length; ) {
    const first = positions[i];
    let last = first;
    for (i++; i < positions.length && positions[i] === last + 1; i++) last = positions[i];
    runs.push(first === last ? `${first}` : `${first}-${last}`);
  }
  return runs.join(" ");
}

/** The runs as pairs of first position and length. */
export function parseRuns(text: string): { first: number; length: number }[] {
  if (text === "") return [];
  return text.split(" ").map((run) => {
    const [first, last = first] = run.split("-").map(Number);
    return { first, length: last - first + 1 };
  });
}
