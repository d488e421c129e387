/** attendBatch: one step of a server, over layers of many caches. */
import { argumentError } from "../errors.js";
import type { AsyncOptions } from "../jobs.js";
import {
  type AttendBatchParams,
  attendBatch as attendTensors,
  attendBatchAsync as attendTensorsAsync,
} from "../ops/attend-batch.js";
import { LayerCache } from "./layer-cache.js";
import type { Rows } from "./staging.js";
import { runStep, runStepAsync, type ScoreSums, type StepInput, tokensOf } from "./step.js";

const op = "attendBatch";

/** One layer of one cache in {@link attendBatch}. */
export interface LayerItem {
  readonly layer: LayerCache;
  /** Queries `[queryHeads, tokens, headDim]` of the last `tokens` tokens, before RoPE if the cache has `rope`. */
  readonly q: Rows;
  /** Result, shape of q; a Tensor has the dtype of q. Outputs of different items do not overlap. */
  readonly out: Rows;
  /** Keys `[kvHeads, tokens, headDim]` to append before; given with `v`. Default: nothing is appended. */
  readonly k?: Rows | undefined;
  /** Values, alike. */
  readonly v?: Rows | undefined;
  /** Number of tokens. Default: axis 1 of a Tensor q, or the length of the array. */
  readonly tokens?: number | undefined;
  /** As in `layer.attend`; `sum` has room for the slots after the append. */
  readonly scores?: ScoreSums | undefined;
}

/** Parameters of {@link attendBatch} over layers. */
export interface LayerBatchParams {
  readonly items: readonly LayerItem[];
}

function inputOf(item: LayerItem, i: number): StepInput {
  if (typeof item !== "object" || item === null) {
    throw argumentError(op, "an object", `items[${i}]`, item);
  }
  const { layer, q, out, k, v } = item;
  if (!(layer instanceof LayerCache)) {
    throw argumentError(op, "a layer of a KVCache", `items[${i}].layer`, layer);
  }
  const { cache } = layer;
  cache.assertIdle(op);
  const { queryHeads, headDim } = cache.options;
  const tokens = item.tokens ?? tokensOf(q, 1, queryHeads * headDim);
  const more = k === undefined ? 0 : tokens;
  const scores = cache.sumsFor(op, layer.index, more, item.scores);
  return { cache, layer: layer.index, tokens, k, v, q, out, scores };
}

function inputsOf({ items }: LayerBatchParams): StepInput[] {
  if (!Array.isArray(items)) throw argumentError(op, "an array", "items", items);
  const inputs = (items as readonly LayerItem[]).map(inputOf);
  for (const { layer, k } of items) if (k !== undefined) layer.cache.forgetSimilarity();
  return inputs;
}

/** Whether a batch is one of layers; an empty one is either. */
function isOfLayers(params: LayerBatchParams | AttendBatchParams): params is LayerBatchParams {
  const items: unknown = params?.items;
  if (!Array.isArray(items)) return false;
  const [first] = items as readonly unknown[];
  return typeof first === "object" && first !== null && "layer" in first;
}

/**
 * Appends to and attends over layers of many caches in one native call: what a server does for all sequences of a
 * step. The caches may differ in length, method and how their slots are stored; they are on one device and agree in
 * dtype, headDim, query heads per KV head, and dtype of the queries. A prefix that caches share through `fork()` is
 * read once for all of them.
 *
 * Does what `layer.append` and `layer.attend` do for one item after the other, under docs/tolerance.md; all items or
 * none: after an error every cache is as it was.
 *
 * @param params the items; a layer of a cache comes once
 * @returns nothing when the results are there or enqueued; a promise when CUDA results are read into Float32Arrays
 * @throws {SpindleKVError} ERR_SPINDLEKV_ARGUMENT when a shape or dtype is wrong or a layer comes twice,
 *   ERR_SPINDLEKV_WRONG_DEVICE when caches or tensors are not on one device, ERR_SPINDLEKV_DISPOSED,
 *   ERR_SPINDLEKV_BUSY while a cache is compressed or in an asynchronous step, ERR_SPINDLEKV_OUT_OF_MEMORY
 * @example
 * ```ts
 * for (let layer = 0; layer < layers; layer++) {
 *   attendBatch({
 *     items: sequences.map(({ cache, k, v, q, out }) => ({ layer: cache.layers[layer], k, v, q, out })),
 *   });
 * }
 * ```
 */
export function attendBatch(params: LayerBatchParams): void | Promise<void>;
/**
 * The same for slots that are given as tensors, without caches: what {@link attend} does for every item. Leading runs
 * of a KV head that are the same tensors in several items are read once for all of them.
 *
 * @throws {SpindleKVError} as {@link attend}; ERR_SPINDLEKV_ARGUMENT also when items do not agree
 */
export function attendBatch(params: AttendBatchParams): void;
export function attendBatch(params: LayerBatchParams | AttendBatchParams): void | Promise<void> {
  if (!isOfLayers(params)) return attendTensors(params);
  return runStep(op, inputsOf(params), true);
}

/**
 * {@link attendBatch} off the event loop; resolves when the device is done. Argument errors reject. Until then every
 * other call on the caches fails with ERR_SPINDLEKV_BUSY.
 *
 * @throws {SpindleKVError} as {@link attendBatch}, and ERR_SPINDLEKV_ABORTED when `options.signal` aborted it: every
 *   cache is then as it was, and what the outputs hold means nothing
 */
export async function attendBatchAsync(
  params: LayerBatchParams | AttendBatchParams,
  options?: AsyncOptions,
): Promise<void> {
  if (!isOfLayers(params)) return attendTensorsAsync(params, options);
  await runStepAsync(op, inputsOf(params), true, options);
}
