/**
 * The models of the runtime in float64, from the formulas, in plain loops: one token after the other, every
 * intermediate kept, nothing shared with the runtime but the file's tensors and the shape.
 */
import type { GgufFile, LlamaConfig } from "../../lib/runtimes/gguf-llama/index.ts";
import { ReferenceRope } from "./reference-rope.ts";

/** What happened to the tokens that reached the end. */
export interface ReferencePass {
  /** Tokens with a row behind each layer, the last of them at the end. */
  readonly tokens: readonly number[];
  /** By token: [vocabulary]. */
  readonly logits: ReadonlyMap<number, Float64Array>;
  /** By layer and token: the stream as it enters, and with attention added. */
  readonly streams: readonly ReadonlyMap<number, { before: Float64Array; after: Float64Array }>[];
}

type Row = Float64Array;

/** What a layer's queries paid attention to. */
export interface ReferenceAttention {
  /** Tokens with a row. */
  readonly tokens: readonly number[];
  /** Mean over the query heads, by query: a share for each of `tokens` up to it. */
  readonly shares: readonly Float64Array[];
}

/** Tokens to go no further than a layer. */
export type ReferenceDrop = (layer: number, attention: ReferenceAttention) => readonly number[];

export function runReference(
  file: GgufFile,
  config: LlamaConfig,
  ids: Int32Array,
  drop: ReferenceDrop = () => [],
): ReferencePass {
  const { layers, width, queryHeads, kvHeads, headDim, normEpsilon } = config;
  const rope = new ReferenceRope(config.rope, headDim);
  const tensors = new Map([...file.tensors.keys()].map((name) => [name, file.readTensor(name)]));
  const product = (name: string, x: Row): Row => {
    const weight = tensors.get(`${name}.weight`)!;
    const bias = tensors.get(`${name}.bias`);
    const out = new Float64Array(weight.length / x.length);
    for (let o = 0; o < out.length; o++) {
      let sum = bias?.[o] ?? 0;
      for (let i = 0; i < x.length; i++) sum += x[i] * weight[o * x.length + i];
      out[o] = sum;
    }
    return out;
  };
  const norm = (x: Row, weight: Float32Array): Row => {
    const mean = x.reduce((sum, value) => sum + value * value, 0) / x.length;
    return x.map((value, i) => (value / Math.sqrt(mean + normEpsilon)) * weight[i]);
  };
  /** Heads of a query or key row, normed where there is a norm for them, and turned. */
  const turned = (x: Row, normName: string, position: number): Row[] =>
    Array.from({ length: x.length / headDim }, (_, head) => {
      const weight = tensors.get(normName);
      const plain = x.slice(head * headDim, (head + 1) * headDim);
      const row = weight === undefined ? plain : norm(plain, weight);
      rope.rotate(row, position);
      return row;
    });
  const plus = (x: Row, y: Row): Row => x.map((value, i) => value + y[i]);

  const embedding = tensors.get("token_embd.weight")!;
  let rows = new Map(
    Array.from(ids, (id, token): [number, Row] => [
      token,
      Float64Array.from(embedding.subarray(id * width, (id + 1) * width)),
    ]),
  );
  const streams: Map<number, { before: Row; after: Row }>[] = [];
  for (let layer = 0; layer < layers; layer++) {
    const at = `blk.${layer}.`;
    const seen: { keys: Row[]; values: Row }[] = [];
    const stream = new Map<number, { before: Row; after: Row }>();
    const next = new Map<number, Row>();
    const means: Row[] = [];
    for (const [token, before] of rows) {
      const x = norm(before, tensors.get(`${at}attn_norm.weight`)!);
      const queries = turned(product(`${at}attn_q`, x), `${at}attn_q_norm.weight`, token);
      const keys = turned(product(`${at}attn_k`, x), `${at}attn_k_norm.weight`, token);
      seen.push({ keys, values: product(`${at}attn_v`, x) });
      const attended = new Float64Array(queryHeads * headDim);
      const mean = new Float64Array(seen.length);
      means.push(mean);
      queries.forEach((query, head) => {
        const kvHead = Math.floor(head / (queryHeads / kvHeads));
        const logits = seen.map(
          (slot) =>
            query.reduce((sum, q, i) => sum + q * slot.keys[kvHead][i], 0) / Math.sqrt(headDim),
        );
        const most = Math.max(...logits);
        const shares = logits.map((logit) => Math.exp(logit - most));
        const total = shares.reduce((sum, share) => sum + share, 0);
        shares.forEach((share, slot) => {
          mean[slot] += share / total / queryHeads;
          for (let i = 0; i < headDim; i++) {
            attended[head * headDim + i] +=
              (share / total) * seen[slot].values[kvHead * headDim + i];
          }
        });
      });
      const after = plus(before, product(`${at}attn_output`, attended));
      stream.set(token, { before, after });
      const y = norm(after, tensors.get(`${at}ffn_norm.weight`)!);
      const up = product(`${at}ffn_up`, y);
      const gated = product(`${at}ffn_gate`, y).map((g, i) => (g / (1 + Math.exp(-g))) * up[i]);
      next.set(token, plus(after, product(`${at}ffn_down`, gated)));
    }
    for (const token of drop(layer, { tokens: [...rows.keys()], shares: means })) {
      next.delete(token);
    }
    streams.push(stream);
    rows = next;
  }
  const output = tensors.has("output.weight") ? "output" : "token_embd";
  const logits = new Map(
    [...rows].map(([token, x]): [number, Row] => [
      token,
      product(output, norm(x, tensors.get("output_norm.weight")!)),
    ]),
  );
  return { tokens: [...rows.keys()], logits, streams };
}
