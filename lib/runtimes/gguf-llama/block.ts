/**
 * One layer over a few rows of the residual stream, in place:
 *   x += Wo * attention(Wq * norm(x), Wk * norm(x), Wv * norm(x))
 *   x += Wdown * (silu(Wgate * norm(x)) * (Wup * norm(x)))
 * Queries and keys are normed per head where the architecture says so. Keys and values go to the cache's layer before
 * RoPE and attention comes from it, so this file knows neither positions nor how anything is stored.
 * Source: Touvron et al. 2023 (arXiv 2302.13971), section 2.2; Qwen3 (arXiv 2505.09388), section 2, for the head norm.
 */
import type { AttentionLayer } from "./cache-port.js";
import type { LlamaConfig } from "./config.js";
import type { Linear } from "./linear.js";
import { addTo, rmsNorm, swapHeads } from "./rows.js";
import type { Block } from "./weights.js";

/** Neighbouring tokens among the rows, and the tokens between the run before and them that have no row. */
export interface Run {
  readonly start: number;
  readonly end: number;
  readonly gap: number;
}

/** Buffers for a number of rows, used by one layer after the other. */
export class BlockBuffers {
  readonly normed: Float32Array;
  readonly delta: Float32Array;
  readonly gate: Float32Array;
  readonly up: Float32Array;

  constructor({ width, feedForward }: LlamaConfig, rows: number) {
    this.normed = new Float32Array(rows * width);
    this.delta = new Float32Array(rows * width);
    this.gate = new Float32Array(rows * feedForward);
    this.up = new Float32Array(rows * feedForward);
  }
}

/** @param x `[rows, width]`, changed; `runs` cover its rows in order */
export async function runBlock(
  block: Block,
  config: LlamaConfig,
  layer: AttentionLayer,
  x: Float32Array,
  runs: readonly Run[],
  buffers: BlockBuffers,
): Promise<void> {
  const { width, feedForward, normEpsilon } = config;
  const rows = x.length / width;
  const normed = buffers.normed.subarray(0, x.length);
  const delta = buffers.delta.subarray(0, x.length);
  const before = layer.observe === undefined ? null : x.slice();

  rmsNorm(x, block.attentionNorm, normEpsilon, normed);
  const attended = await attention(block, config, layer, normed, runs);
  block.output.forward(attended, rows, delta);
  addTo(x, delta);
  if (before !== null) await layer.observe?.(before, x, rows);

  rmsNorm(x, block.feedForwardNorm, normEpsilon, normed);
  const gate = buffers.gate.subarray(0, rows * feedForward);
  block.gate.forward(normed, rows, gate);
  block.up.forward(normed, rows, buffers.up);
  for (let i = 0; i < gate.length; i++) {
    gate[i] = (gate[i] / (1 + Math.exp(-gate[i]))) * buffers.up[i];
  }
  block.down.forward(gate, rows, delta);
  addTo(x, delta);
}

/** Attention through the cache, run by run: `[rows, queryHeads * headDim]`. */
async function attention(
  block: Block,
  config: LlamaConfig,
  layer: AttentionLayer,
  x: Float32Array,
  runs: readonly Run[],
): Promise<Float32Array> {
  const { width, queryHeads, kvHeads, headDim, normEpsilon } = config;
  const rows = x.length / width;
  const projected = (weight: Linear, norm: Float32Array | null) => {
    const out = new Float32Array(rows * weight.outputs);
    weight.forward(x, rows, out);
    if (norm !== null) rmsNorm(out, norm, normEpsilon, out);
    return out;
  };
  const keys = projected(block.key, block.keyNorm);
  const values = projected(block.value, null);
  const queries = projected(block.query, block.queryNorm);
  const attended = new Float32Array(queries.length);
  for (const { start, end, gap } of runs) {
    const tokens = end - start;
    const byHead = (x: Float32Array, heads: number) =>
      swapHeads(x.subarray(start * heads * headDim), tokens, heads, headDim);
    if (gap > 0) layer.skip?.(gap);
    layer.append(byHead(keys, kvHeads), byHead(values, kvHeads), tokens);
    const out = new Float32Array(queryHeads * tokens * headDim);
    await layer.attend(byHead(queries, queryHeads), out, tokens);
    attended.set(swapHeads(out, queryHeads, tokens, headDim), start * queryHeads * headDim);
  }
  return attended;
}
