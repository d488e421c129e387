// Methods whose budgets follow from the prompt: what the oracles say that each layer and head keeps, and a cache
// compared with it slot by slot.
import { expect } from "vitest";
import { KVCache, type KVCacheOptions, type Method } from "../../lib/index.ts";
import { feed, makePrompt, type Prompt, type Shape } from "../cache/fixtures.ts";
import { denseValues, type RopeSetting } from "../cache/reference.ts";
import type { Device } from "../harness/api.ts";
import { roundTo } from "../oracle/float-formats.ts";
import { poolScoresOracle } from "../oracle/pool-scores.ts";
import { reduceGroupOracle } from "../oracle/reduce-group.ts";
import { type Selection, selectTopkOracle } from "../oracle/select-topk.ts";
import type { QueryValues } from "../oracle/types.ts";
import { windowScoresOracle } from "../oracle/window-scores.ts";
import { expectKept } from "./kept.ts";

export const rope: RopeSetting = { theta: 10_000, style: "neox" };

export interface PlannedCase {
  readonly prompt: Prompt;
  /** Scores of all slots of each layer, [rows][slots]. */
  readonly scores: readonly (readonly ArrayLike<number>[])[];
  /** Ranked slots of each row. */
  readonly plan: readonly (readonly number[])[];
  readonly sinks?: number;
  readonly recent: number;
  /** Rows of a KV head whose selections are joined. */
  readonly unionGroup?: number;
}

/** A prompt whose layers attend with different sharpness, so that budgets have something to go by. */
export function unevenPrompt(shape: Shape, tokens: number, seed = 3): Prompt {
  const prompt = makePrompt(shape, tokens, { seed });
  // Powers of two: the queries stay values of the dtype.
  const sharpness = [0.25, 2, 0.5, 4];
  const layers = prompt.layers.map((rows, layer) => ({
    ...rows,
    q: rows.q.map((value) => value * sharpness[layer % sharpness.length]),
  }));
  return { ...prompt, layers };
}

/** The window's queries of a layer and all keys, for the oracles. */
export function windowValues(prompt: Prompt, layer: number, window: number): QueryValues {
  const { tokens } = prompt;
  return denseValues(prompt, { layer, from: tokens - window, to: tokens, rope });
}

export interface Ranking {
  readonly window: number;
  readonly pool?: { readonly kind: "mean" | "max"; readonly kernel: number };
  readonly group: "unfold" | "mean" | "max" | "sum";
  /** What becomes of a query head's statistics over the window before pooling. Default: their sum. */
  readonly of?: (columns: Columns, kvHead: number) => Float64Array;
}

/** Statistics of one query head over the window's queries, per slot. */
export interface Columns {
  readonly sum: Float64Array;
  readonly mean: Float64Array;
  /** Unbiased. */
  readonly variance: Float64Array;
}

export function columnsOf(values: QueryValues): Columns[] {
  const { sum, sumSq } = windowScoresOracle(values);
  const w = values.queries;
  return sum.map((column, row) => ({
    sum: column,
    mean: column.map((s) => s / w),
    variance: column.map((s, i) => (w === 1 ? 0 : (sumSq[row][i] - (s * s) / w) / (w - 1))),
  }));
}

/** - sum p ln p over query heads, window and slots before the window. */
export function contextEntropy(prompt: Prompt, layer: number, window: number): number {
  let entropy = 0;
  // One query at a time: the sum over a window of one is its row of probabilities.
  for (let query = prompt.tokens - window; query < prompt.tokens; query++) {
    const values = denseValues(prompt, { layer, from: query, to: query + 1, rope });
    // The slots after the query are not seen by it.
    for (const row of windowScoresOracle(values).sum) {
      for (let slot = 0; slot < prompt.tokens - window; slot++) {
        if (row[slot] > 0) entropy -= row[slot] * Math.log(row[slot]);
      }
    }
  }
  return entropy;
}

/** Scores of a layer's slots as SnapKV's family makes them: statistics, pooled before the window, over the group. */
export function rankedBy(
  prompt: Prompt,
  layer: number,
  { window, pool, group, of }: Ranking,
): Float64Array[] {
  const values = windowValues(prompt, layer, window);
  const { tokens } = prompt;
  const scored = columnsOf(values).map((columns, row) =>
    of === undefined ? columns.sum : of(columns, Math.floor(row / values.group)),
  );
  const context = scored.map((row) => row.slice(0, tokens - window) as never);
  const pooled =
    pool === undefined ? context : poolScoresOracle({ rows: context, divisor: "kernel", ...pool });
  const reduced =
    group === "unfold"
      ? pooled
      : reduceGroupOracle({ rows: pooled as never[], group: values.group, kind: group });
  return reduced.map((row) => {
    const all = new Float64Array(tokens);
    all.set(row as ArrayLike<number>);
    return all;
  });
}

/** Attention of the last queries to every slot, their own included: per query head, or added up over the group. */
export function attentionTo(
  prompt: Prompt,
  layer: number,
  window: number,
  rows: "query-head" | "kv-head",
): Float64Array[] {
  const values = windowValues(prompt, layer, window);
  const { sum } = windowScoresOracle(values);
  if (rows === "query-head") return sum;
  const { group } = values;
  return values.heads.map((_, head) =>
    sum[head * group].map((__, slot) =>
      sum.slice(head * group, (head + 1) * group).reduce((all, row) => all + row[slot], 0),
    ),
  );
}

/** Scores as a budget sees them: float32, the ranked slots alone. */
export function rankedPart({
  scores,
  sinks = 0,
  recent,
}: Pick<PlannedCase, "scores" | "sinks" | "recent">): Float32Array[][] {
  return scores.map((rows) =>
    rows.map((row) => Float32Array.from(row).slice(sinks, row.length - recent)),
  );
}

/** What is kept by the oracle, [layer][KV head]. */
export function keptBy({ scores, plan, sinks = 0, recent, unionGroup = 1 }: PlannedCase) {
  return scores.map((rows, layer) =>
    selectTopkOracle({ rows: rows as never[], k: plan[layer], sinks, recent, unionGroup }),
  );
}

export interface FilledOptions extends Partial<KVCacheOptions> {
  /** Last tokens whose queries attend. */
  readonly attended: number;
}

/** A cache with the prompt in it, layer by layer; `afterLayer` is called when a layer has seen all of it. */
export async function fillByLayer(
  device: Device,
  prompt: Prompt,
  { attended, ...options }: FilledOptions,
  afterLayer: (cache: KVCache, layer: number) => Promise<void> = async () => undefined,
): Promise<KVCache> {
  const cache = new KVCache(device, { ...prompt.shape, rope, preRopeKeys: true, ...options });
  const { headDim, queryHeads } = prompt.shape;
  const first = prompt.tokens - attended;
  try {
    for (const layer of cache.layers) {
      const { k, v, q } = prompt.layers[layer.index];
      layer.append(k, v, prompt.tokens);
      const rows = new Float32Array(queryHeads * attended * headDim);
      for (let head = 0; head < queryHeads; head++) {
        const from = (head * prompt.tokens + first) * headDim;
        rows.set(q.subarray(from, from + attended * headDim), head * attended * headDim);
      }
      await layer.attend(rows, new Float32Array(rows.length), attended);
      await afterLayer(cache, layer.index);
    }
    return cache;
  } catch (error) {
    cache.dispose();
    throw error;
  }
}

/** Compresses the prompt by the method and compares plan and slots with the oracle's. */
export async function expectPlanned(
  device: Device,
  method: Method,
  expected: PlannedCase,
  { attended, ...options }: FilledOptions,
): Promise<Selection[][]> {
  const { prompt } = expected;
  const kept = keptBy(expected);
  using cache = await fillByLayer(device, prompt, { attended, method, ...options });
  const report = await cache.compress();
  const means = expected.plan.map((rows) => rows.reduce((a, b) => a + b, 0) / rows.length);
  report.plan?.forEach((k, layer) => {
    expect(k, `budget of layer ${layer}`).toBeCloseTo(means[layer], 9);
  });
  for (const [layer, heads] of kept.entries()) await expectKept(cache, layer, heads);
  expect(report.slots).toBe(
    kept.flat().reduce((sum, selection) => sum + selection.indices.length, 0),
  );
  return kept;
}

/** Queries in the middle of a prompt's distribution, for steps after it. */
export async function decode(
  cache: KVCache,
  prompt: Prompt,
  from: number,
  to: number,
): Promise<void> {
  const { headDim, queryHeads } = prompt.shape;
  for (let token = from; token < to; token++) {
    await feed(cache, prompt, { from: token, to: token + 1 });
    for (const layer of cache.layers) {
      const { q } = prompt.layers[layer.index];
      const rows = new Float32Array(queryHeads * headDim);
      for (let head = 0; head < queryHeads; head++) {
        const at = (head * prompt.tokens + token) * headDim;
        rows.set(q.subarray(at, at + headDim), head * headDim);
      }
      await layer.attend(rows, new Float32Array(rows.length), 1);
    }
    await cache.maintain();
  }
}

/** L1 norms of a KV head's values, as stored. */
export function valueL1(prompt: Prompt, layer: number, kvHead: number): number[] {
  const { headDim, dtype = "f16" } = prompt.shape;
  const { v } = prompt.layers[layer];
  return Array.from({ length: prompt.tokens }, (_, token) => {
    const at = (kvHead * prompt.tokens + token) * headDim;
    return v.subarray(at, at + headDim).reduce((sum, x) => sum + Math.abs(roundTo(dtype, x)), 0);
  });
}
