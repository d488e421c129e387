/**
 * Items of a step on their way into native code: each is a row of numbers, in which a Tensor stands by its
 * handle. Host arrays go as they are where the device reads them, and through tensors where it does not.
 */
import type { Device } from "../device.js";
import { argumentError } from "../errors.js";
import { type AsyncOptions, runJob } from "../jobs.js";
import { Tensor } from "../tensor.js";
import { storeAddon } from "./native-store.js";
import { type Rows, readsHostMemory, runStaged, Staging } from "./staging.js";

/** Sums of attention probabilities that a call adds to. */
export interface ScoreSums {
  /** f32 `[rows, slots]` or more slots; a row is a query head, or (summed over the group) a KV head. */
  readonly sum: Tensor;
  readonly mode: "query-head" | "kv-head";
}

/** What an item needs to know of its cache. */
export interface StepCache {
  readonly device: Device;
  readonly handle: number;
  readonly scale: number;
  readonly options: {
    readonly layers: number;
    readonly queryHeads: number;
    readonly kvHeads: number;
    readonly headDim: number;
  };
}

/** One item; `layer` -1: all layers of the cache, and rows have an axis of them in front. */
export interface StepInput {
  readonly cache: StepCache;
  readonly layer: number;
  readonly tokens: number;
  readonly k: Rows | undefined;
  readonly v: Rows | undefined;
  readonly q: Rows;
  readonly out: Rows;
  readonly scores: ScoreSums | undefined;
}

// The order of ItemField in binding/store_step.cc.
const kItemFields = 10;

const kNone = -1;
const modes: Record<string, number> = { "query-head": 1, "kv-head": 2 };

/** Rows as native functions take them; what is wrong with other values is said there. */
export function rowsArgument(rows: unknown): unknown {
  const handle = Tensor.handleOf(rows);
  if (handle >= 0) return handle;
  return typeof rows === "number" ? undefined : rows; // a number would pass for a handle
}

/** The number of a score mode; 0 without scores. */
export function modeNumber(op: string, scores: ScoreSums | undefined): number {
  if (scores === undefined) return 0;
  const mode = Object.hasOwn(modes, scores.mode) ? modes[scores.mode] : undefined;
  if (mode === undefined) {
    throw argumentError(op, '"query-head" or "kv-head"', "mode", scores.mode);
  }
  return mode;
}

/** Tokens of rows whose axis `axis` they are, or of an array of whole tokens. */
export function tokensOf(rows: unknown, axis: number, elementsPerToken: number): number {
  if (rows instanceof Tensor) return rows.shape[axis] ?? 0;
  if (!(rows instanceof Float32Array)) return 0; // what is wrong with it is said natively
  return Math.floor(rows.length / elementsPerToken);
}

function staged(staging: Staging, op: string, input: StepInput, prefix: string): StepInput {
  const { cache, tokens, k, v, q, out } = input;
  const { layers, kvHeads, queryHeads, headDim } = cache.options;
  const shape = (heads: number) =>
    input.layer < 0 ? [layers, heads, tokens, headDim] : [heads, tokens, headDim];
  const read = (name: string, heads: number, rows: Rows) =>
    staging.input(op, prefix + name, cache.device, shape(heads), rows);
  return {
    ...input,
    k: k && read("k", kvHeads, k),
    v: v && read("v", kvHeads, v),
    q: read("q", queryHeads, q),
    out: staging.output(op, `${prefix}out`, cache.device, shape(queryHeads), out),
  };
}

// Grows to the largest step; a step that begins while another one fills it (a getter may) takes its own.
let spareFields: Float64Array | undefined;

interface Packed {
  readonly fields: Float64Array;
  readonly arrays: unknown[];
}

function pack(op: string, inputs: readonly StepInput[]): Packed {
  const size = inputs.length * kItemFields;
  const fields =
    spareFields !== undefined && spareFields.length >= size
      ? spareFields
      : new Float64Array(2 * size);
  spareFields = undefined;
  const arrays: unknown[] = [];
  const rows = (value: unknown) => {
    const handle = Tensor.handleOf(value);
    return handle >= 0 ? handle : kNone - arrays.push(value);
  };
  let at = 0;
  for (const { cache, layer, tokens, k, v, q, out, scores } of inputs) {
    fields[at] = cache.handle;
    fields[at + 1] = layer;
    fields[at + 2] = tokens;
    const isAppending = layer < 0 || k !== undefined || v !== undefined;
    fields[at + 3] = isAppending ? rows(k) : kNone;
    fields[at + 4] = isAppending ? rows(v) : kNone;
    fields[at + 5] = rows(q);
    fields[at + 6] = rows(out);
    fields[at + 7] = cache.scale;
    fields[at + 8] = scores === undefined ? kNone : Tensor.handleOf(scores.sum);
    fields[at + 9] = modeNumber(op, scores);
    at += kItemFields;
  }
  return { fields, arrays };
}

const prefixOf = (isList: boolean, i: number) => (isList ? `items[${i}].` : "");

/** Runs the items now; a promise where results go from a CUDA device into host arrays. */
export function runStep(
  op: string,
  inputs: readonly StepInput[],
  isList: boolean,
): void | Promise<void> {
  const [first] = inputs;
  if (first === undefined) return undefined;
  if (!readsHostMemory(first.cache.device) && inputs.some(hasHostRows)) {
    return runStaged((staging) => {
      const tensors = inputs.map((input, i) => staged(staging, op, input, prefixOf(isList, i)));
      const { fields, arrays } = pack(op, tensors);
      storeAddon().storeStep(fields, isList ? tensors.length : -1, arrays);
    });
  }
  const { fields, arrays } = pack(op, inputs);
  storeAddon().storeStep(fields, isList ? inputs.length : -1, arrays);
  spareFields = fields;
  return undefined;
}

function hasHostRows({ k, v, q, out }: StepInput): boolean {
  return [k, v, q, out].some((rows) => rows instanceof Float32Array);
}

/** Runs the items off the event loop. */
export async function runStepAsync(
  op: string,
  inputs: readonly StepInput[],
  isList: boolean,
  options: AsyncOptions | undefined,
): Promise<void> {
  if (inputs.length === 0) return;
  using staging = new Staging();
  const tensors = inputs.map((input, i) => staged(staging, op, input, prefixOf(isList, i)));
  const { fields, arrays } = pack(op, tensors);
  await runJob(options, (token) =>
    storeAddon().storeStepAsync(fields, isList ? tensors.length : -1, arrays, token),
  );
  await staging.finish();
}
