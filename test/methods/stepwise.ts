// Methods that evict while the model decodes, in float64: the prompt at once, then one token after the other, each
// attending to what is left of those before it.
import { expect } from "vitest";
import { KVCache, type Method } from "../../lib/index.ts";
import { ask, feed, type Prompt } from "../cache/fixtures.ts";
import { compareAttention, denseValues, type RopeSetting } from "../cache/reference.ts";
import type { Device } from "../harness/api.ts";
import { attendOracle } from "../oracle/attend.ts";
import { storedLayer } from "./kept.ts";

/** One layer as it is simulated. */
export interface SimulatedLayer {
  /** Positions held, ascending, per KV head. */
  readonly kept: number[][];
  /** Attention of all queries so far to the slots held, summed over the group, per KV head. */
  readonly sums: number[][];
  /** Attention of the last query to them, per query head. */
  last: number[][];
}

/** Which slots (indices into what is held) of each head stay. */
export type Rule = (layer: SimulatedLayer) => number[][];

export interface StepwiseCase {
  readonly prompt: Prompt;
  /** Tokens of the prompt proper; the rest is decoded. */
  readonly first: number;
  /** Slots a head may hold. */
  readonly tokens: number;
  /** Slots more than that before it is brought back. Default 0. */
  readonly slack?: number;
  /** Default 8: more than a sixteenth of `tokens`, so that slots are always moved together. */
  readonly pageSlots?: number;
  readonly rope: RopeSetting;
  readonly rule: Rule;
}

function attendTo(
  setting: StepwiseCase,
  layer: number,
  from: number,
  to: number,
  held: number[][],
) {
  const { prompt, rope } = setting;
  const values = denseValues(prompt, {
    layer,
    from,
    to,
    rope,
    isRotated: true,
    kept: (head) => held[head],
  });
  return { values, result: attendOracle(values) };
}

/** Takes tokens [from, to) in, and evicts when a head holds too many. */
function advance(
  setting: StepwiseCase,
  state: SimulatedLayer,
  layer: number,
  from: number,
  to: number,
) {
  const { prompt, tokens, slack = 0, rule } = setting;
  const { kvHeads, queryHeads } = prompt.shape;
  for (let head = 0; head < kvHeads; head++) {
    for (let token = from; token < to; token++) {
      state.kept[head].push(token);
      state.sums[head].push(0);
    }
  }
  const { values, result } = attendTo(setting, layer, from, to, state.kept);
  result.kvHeadScores.forEach((row, head) => {
    row.forEach((sum, slot) => {
      state.sums[head][slot] += sum;
    });
  });
  const newest = attendTo(setting, layer, to - 1, to, state.kept).result;
  state.last = newest.queryHeadScores.map((row) => Array.from(row));
  if (state.kept.some((held) => held.length > tokens + slack)) {
    const group = queryHeads / kvHeads;
    rule(state).forEach((stay, head) => {
      state.kept[head] = stay.map((slot) => state.kept[head][slot]);
      state.sums[head] = stay.map((slot) => state.sums[head][slot]);
      for (let h = head * group; h < (head + 1) * group; h++) {
        state.last[h] = stay.map((slot) => state.last[h][slot]);
      }
    });
  }
  return values;
}

/** The best `count` of `scores` among [from, to), larger first, equal ones the older slot; ascending. */
function best(scores: readonly number[], count: number, from: number, to: number): number[] {
  return scores
    .map((score, slot) => ({ score, slot }))
    .slice(from, to)
    .sort((a, b) => b.score - a.score || a.slot - b.slot)
    .slice(0, count)
    .map(({ slot }) => slot)
    .sort((a, b) => a - b);
}

/** Of every head the first `sinks` and the last `recent` slots, and the best of the others until `tokens` stay. */
export function keepBest(
  { tokens, sinks = 0, recent = 0 }: { tokens: number; sinks?: number; recent?: number },
  scoresOf: (layer: SimulatedLayer, head: number) => readonly number[],
): Rule {
  return (layer) =>
    layer.kept.map((held, head) => {
      const n = held.length;
      const slots = Array.from({ length: n }, (_, slot) => slot);
      return [
        ...slots.slice(0, sinks),
        ...best(scoresOf(layer, head), tokens - sinks - recent, sinks, n - recent),
        ...slots.slice(n - recent),
      ];
    });
}

/**
 * Every step: the slots held, and what attention gives over them, are those of the simulation. Memory stays flat, or
 * where dropped slots may lie between the others for a while, within a page a head of that.
 */
export async function expectStepwise(
  device: Device,
  method: Method,
  setting: StepwiseCase,
): Promise<void> {
  const { prompt, first, tokens, slack = 0, pageSlots = 8, rope } = setting;
  const { layers, kvHeads } = prompt.shape;
  using cache = new KVCache(device, { ...prompt.shape, rope, method, pageSlots });
  const states = Array.from(
    { length: layers },
    (): SimulatedLayer => ({
      kept: Array.from({ length: kvHeads }, () => []),
      sums: Array.from({ length: kvHeads }, () => []),
      last: [],
    }),
  );
  const bytes: number[] = [];
  for (let from = 0; from < prompt.tokens; ) {
    const to = from === 0 ? first : from + 1;
    await feed(cache, prompt, { from, to });
    const outputs = await ask(cache, prompt, from, to);
    await cache.maintain();
    for (const [layer, state] of states.entries()) {
      const values = advance(setting, state, layer, from, to);
      const name = `token ${to - 1}, layer ${layer}`;
      if (from > 0) compareAttention(name, outputs[layer], values, "f32");
      const heads = await storedLayer(cache, layer);
      const held = heads.map(({ positions }) => Array.from(positions));
      expect(held, name).toEqual(state.kept);
      expect(Math.max(...held.map((row) => row.length))).toBeLessThanOrEqual(tokens + slack);
    }
    const stats = cache.stats();
    expect(stats.bytes.total).toBe(stats.pool.bytesUsed);
    bytes.push(stats.bytes.total);
    from = to;
  }
  if (slack > 0) return;
  if (tokens < 16 * pageSlots) {
    expect(new Set(bytes).size, "bytes after each step").toBe(1);
    return;
  }
  const most = Math.max(...bytes) - Math.min(...bytes);
  expect(most, "bytes after a step that leaves gaps").toBeGreaterThan(0);
  const { pageBytes } = cache.stats().pool;
  const slotBytes = 2 * 4 * prompt.shape.headDim + 4;
  const onePage = Math.ceil((pageSlots * slotBytes) / pageBytes) * pageBytes;
  expect(most).toBeLessThanOrEqual(layers * kvHeads * onePage);
  expect(bytes.lastIndexOf(Math.min(...bytes)), "gaps are closed again").toBeGreaterThan(1);
}
