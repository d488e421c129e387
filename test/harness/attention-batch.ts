// Items of attend_batch that have runs in common: seeded values, placed so that a run of several items is the same
// tensors in all of them.
import { attendBatchOracle } from "../oracle/attend-batch.ts";
import type { FloatDType } from "../oracle/float-formats.ts";
import type { HeadValues, QueryValues, RopeValues, RunValues } from "../oracle/types.ts";
import { type AttendParams, ops, type Rope, type Run } from "./api.ts";
import { type AttendSetting, compareAttend, placeQueries, readAttend } from "./attention.ts";
import { invoke } from "./backends.ts";
import { lastPosition, makeHead, makeRope, placeRope, placeRun } from "./heads.ts";
import type { Prng } from "./prng.ts";
import type { Arena } from "./tensors.ts";
import { makeValues } from "./values.ts";

/**
 * Which runs each item's heads are made of, a letter a run: "ABp" is A, B and p. Capitals are long runs, "-" is an
 * empty one. Items share what they have in common from the left.
 */
export const kTrees = {
  apart: ["Ap", "Bq", "p", ""],
  "one run": ["Ap", "Aq", "A", "Ar", "As"],
  "several runs": ["A-Bp", "A-Bq", "A-r", "As", "t"],
  nested: ["ABp", "ABq", "ACr", "ACs", "Dt", "Du"],
  whole: ["AB", "AB", "ABp"],
  "common runs at other slots": ["pA", "qA", "A"],
} as const;

export interface BatchOptions {
  readonly tree: keyof typeof kTrees;
  readonly dtype: FloatDType;
  readonly headDim: number;
  readonly group: number;
  readonly kvHeads: number;
  /** Slots of a long run; short ones have up to 33. */
  readonly long: number;
  readonly codec: "raw" | "codebook" | "mixed";
  /** Of each item, in turn. */
  readonly queries: readonly number[];
  readonly hasMask?: boolean;
  readonly hasBeta?: boolean;
  readonly rope?: "none" | "one" | "two" | "reindex";
}

const kShort: Record<string, number> = { p: 33, q: 1, r: 20, s: 7, t: 12, u: 32 };

/** The heads of every item; runs of one letter and head are one object. */
function makeHeads(random: Prng, options: BatchOptions): HeadValues[][] {
  const { kvHeads, long, group, headDim, dtype, codec, hasMask, hasBeta } = options;
  const runs = new Map<string, RunValues>();
  const runOf = (letter: string, head: number, first: number): RunValues => {
    const key = `${letter}${head}`;
    if (!runs.has(key)) {
      // Ragged heads: a later head's long runs are shorter.
      const slots = letter === "-" ? 0 : (kShort[letter] ?? Math.max(1, long - 3 * head));
      const [run] = makeHead(random.fork(key), {
        headDim,
        dtype,
        slots,
        group,
        codec,
        hasMask,
        hasBeta,
      });
      runs.set(key, { ...run, positions: run.positions.map((position) => first + position) });
    }
    return runs.get(key)!;
  };
  return kTrees[options.tree].map((letters) =>
    Array.from({ length: kvHeads }, (_, head) => {
      let first = 0;
      return Array.from(letters, (letter) => {
        const run = runOf(letter, head, first);
        first += run.slots;
        return run;
      });
    }),
  );
}

export function makeBatch(random: Prng, options: BatchOptions, qDtype: FloatDType): QueryValues[] {
  const { headDim, group, kvHeads, rope = "none" } = options;
  const queriesOf = (i: number) => options.queries[i % options.queries.length];
  const positions = 2 * (2 * options.long + 100);
  const tables = [10_000, 500].map((theta) =>
    makeRope({ positions, nRot: headDim, style: "neox", theta }),
  );
  return makeHeads(random, options).map((heads, i) => {
    const queries = queriesOf(i);
    const last = Math.max(0, lastPosition(heads) - queries + 1);
    // Every third item asks from the middle: causality then hides part of what it shares.
    const queryPosition = i % 3 === 1 ? Math.floor(last / 2) : last;
    return {
      headDim,
      group,
      queries,
      q: makeValues("normal", kvHeads * group * queries * headDim, qDtype, random.fork(`q${i}`)),
      heads,
      scale: (1 + (i % 2)) / Math.sqrt(headDim),
      causal: i % 4 !== 3,
      queryPosition,
      ropeQueryPosition: queryPosition,
      reindex: rope === "reindex",
      ...(rope !== "none" && { rope: tables[rope === "two" ? i % 2 : 0] }),
    };
  });
}

/** Places the items; a run or a RoPE table that several of them hold is placed once. */
export function placeBatch(
  arena: Arena,
  items: readonly QueryValues[],
  settings: readonly AttendSetting[],
): AttendParams[] {
  const runs = new Map<RunValues, Run>();
  const ropes = new Map<RopeValues, Rope>();
  const once = <K, V>(places: Map<K, V>, key: K, place: () => V): V => {
    if (!places.has(key)) places.set(key, place());
    return places.get(key)!;
  };
  return items.map((values, i) => ({
    ...placeQueries(arena, values, settings[i]),
    heads: values.heads.map((head) =>
      head.map((run) =>
        once(runs, run, () => placeRun(arena, run, settings[i].dtype, values.headDim)),
      ),
    ),
    ...(values.rope && { rope: once(ropes, values.rope, () => placeRope(arena, values.rope!)) }),
  }));
}

/** Runs the op once and compares every item with its own oracle. */
export async function checkBatch(
  arena: Arena,
  items: readonly QueryValues[],
  settings: readonly AttendSetting[],
): Promise<void> {
  const params = placeBatch(arena, items, settings);
  await invoke(arena.random, ops.attendBatch, { items: params });
  const expected = attendBatchOracle(items);
  for (const [i, values] of items.entries()) {
    try {
      compareAttend(values, settings[i], await readAttend(params[i]), 1, expected[i]);
    } catch (error) {
      if (error instanceof Error) error.message = `items[${i}]: ${error.message}`;
      throw error;
    }
  }
}
