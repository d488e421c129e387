// Scores that a cache comes to, and its rows as the oracles read them.
import {
  compose,
  KVCache,
  type RankGroup,
  type ScorePart,
  topK,
  uniform,
} from "../../lib/index.ts";
import { ask, feed, type Prompt } from "../cache/fixtures.ts";
import { denseValues, type RopeSetting } from "../cache/reference.ts";
import type { Device } from "../harness/api.ts";
import type { QueryValues } from "../oracle/types.ts";
import { rowsOf } from "../oracle/scorers.ts";
import { storedLayer } from "../methods/kept.ts";

export interface RankOptions {
  readonly rope?: RopeSetting;
  readonly sinks?: number;
  readonly recent?: number;
  /** Slots a head keeps. Default: half of them. */
  readonly tokens?: number;
  /** Keys are stored before RoPE. */
  readonly preRopeKeys?: boolean;
  readonly ranks?: RankGroup;
  /** Tokens a call of append and attend; default: all at once. */
  readonly chunk?: number;
}

export interface Ranked {
  /** [layers][rows][slots]. */
  readonly scores: number[][][];
  /** Positions kept, [layers][kvHeads]. */
  readonly kept: number[][][];
}

/** Every token appended and asked, then compressed by the score. */
export async function rankPrompt(
  device: Device,
  prompt: Prompt,
  score: ScorePart,
  options: RankOptions = {},
): Promise<Ranked> {
  const { rope, sinks = 0, recent = 0, tokens = Math.floor(prompt.tokens / 2) } = options;
  const method = compose({
    id: "ranked",
    target: { tokens },
    score,
    budget: uniform(),
    select: topK({ sinks, recent }),
  });
  using cache = new KVCache(device, {
    ...prompt.shape,
    method,
    ...(rope === undefined ? {} : { rope }),
    ...(options.ranks === undefined ? {} : { ranks: options.ranks }),
    ...(options.preRopeKeys === undefined ? {} : { preRopeKeys: options.preRopeKeys }),
  });
  const chunk = options.chunk ?? prompt.tokens;
  for (let from = 0; from < prompt.tokens; from += chunk) {
    const to = Math.min(prompt.tokens, from + chunk);
    await feed(cache, prompt, { from, to });
    await ask(cache, prompt, from, to);
  }
  const scores: number[][][] = [];
  await cache.compress({
    onScores: (layer, values, rows) => {
      scores[layer] = rowsOf(values, values.length / rows);
    },
  });
  const kept: number[][][] = [];
  for (const { index } of cache.layers) {
    kept.push((await storedLayer(cache, index)).map(({ positions }) => Array.from(positions)));
  }
  return { scores, kept };
}

/** Rows of a layer's KV head as attention reads them, keys after RoPE. */
export function headRows(prompt: Prompt, layer: number, head: number, rope?: RopeSetting) {
  const { headDim } = prompt.shape;
  const values = wholeLayer(prompt, layer, rope);
  const [run] = values.heads[head];
  return { keys: rowsOf(run.k, headDim), values: rowsOf(run.v, headDim) };
}

/** All queries of a layer over all slots, keys stored after RoPE. */
export function wholeLayer(prompt: Prompt, layer: number, rope?: RopeSetting): QueryValues {
  return denseValues(prompt, {
    layer,
    from: 0,
    to: prompt.tokens,
    ...(rope === undefined ? {} : { rope, isRotated: true }),
  });
}
