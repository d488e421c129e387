/**
 * What a dump must hold, checked from the header before any tensor is read.
 *
 * Per layer l: `layers.{l}.query` [queryHeads, tokens, headDim], `.key` (before RoPE) and/or `.key_rope` (after it) and
 * `.value` [kvHeads, tokens, headDim]; `.hidden_in` and `.hidden_out` [tokens, width] (the residual stream before the
 * layer and after its attention was added) for methods that read it; metadata `rope_theta`, `rope_style`, `rope_dims`,
 * `query_rope`. Anything else is left unread.
 */
import type { CacheRope } from "../cache/cache-options.js";
import { type Method, needsRope } from "../cache/method.js";
import { argumentError, describeValue, spindleError } from "../errors.js";
import { CommandFailure } from "./exit-status.js";
import type { SafetensorsFile, TensorEntry } from "./safetensors-reader.js";

const dtypes = { F32: "f32", F16: "f16", BF16: "bf16" } as const;

/** Most query heads per KV head that a cache takes. */
const kMaxGroup = 16;

/** A dump that fits a method. */
export interface Dump {
  readonly layers: number;
  readonly queryHeads: number;
  readonly kvHeads: number;
  readonly tokens: number;
  readonly headDim: number;
  /** Of the keys, and so of the cache. */
  readonly dtype: "f32" | "f16" | "bf16";
  /** Which keys are read: those before or after RoPE. */
  readonly keyName: "key" | "key_rope";
  /** Given when the metadata has it; there whenever something is to be turned. */
  readonly rope: (CacheRope & { readonly nRot: number }) | undefined;
  /** Whether the queries come after RoPE. */
  readonly hasRotatedQueries: boolean;
  /** Whether the method reads the residual stream. */
  readonly readsHidden: boolean;
}

/** Name of a tensor of a layer. */
export const tensorName = (layer: number, part: string) => `layers.${layer}.${part}`;

/** A wrong tensor or metadata: an argument error that is about the file, not about the command line. */
export function inputError(expected: string, param: string, actual: unknown): CommandFailure {
  const { code, op, message } = argumentError("apply", expected, param, actual);
  return new CommandFailure("input", { code, op, message });
}

function missing(what: string, name: string, why: string) {
  const message = `expected ${what} for ${name}, got none (${why})`;
  return spindleError("ERR_SPINDLEKV_MISSING_INPUT", "apply", message);
}

/**
 * Checks that a file holds what a method needs.
 *
 * @throws {SpindleKVError} ERR_SPINDLEKV_MISSING_INPUT naming the tensor or the metadata that is not there,
 *   ERR_SPINDLEKV_ARGUMENT naming the one that is wrong
 */
export function checkDump(file: SafetensorsFile, method: Method): Dump {
  const layers = layersOf(file);
  const keyName = keysOf(file, layers, method);
  const query = entryOf(file, tensorName(0, "query"), "its attention output is asked for");
  const key = entryOf(file, tensorName(0, keyName), `method ${method.id} needs it`);
  const [queryHeads, tokens, headDim] = checkRank(tensorName(0, "query"), query);
  const [kvHeads] = checkRank(tensorName(0, keyName), key);
  if (headDim % 8 !== 0 || headDim > 512) {
    throw inputError("a head dim of 8, 16, .. 512", tensorName(0, "query"), query.shape);
  }
  if (queryHeads % kvHeads !== 0 || queryHeads / kvHeads > kMaxGroup) {
    const expected = `1 to ${kMaxGroup} query heads for each of the ${kvHeads} KV heads`;
    throw inputError(expected, tensorName(0, "query"), query.shape);
  }
  const shapes = {
    query: [queryHeads, tokens, headDim],
    [keyName]: [kvHeads, tokens, headDim],
    value: [kvHeads, tokens, headDim],
  };
  for (let layer = 0; layer < layers; layer++) {
    for (const [part, shape] of Object.entries(shapes)) {
      checkTensor(file, tensorName(layer, part), shape);
    }
    const { dtype } = file.tensors.get(tensorName(layer, keyName)) as TensorEntry;
    if (dtype !== key.dtype) {
      throw inputError(`the dtype of layer 0 (${key.dtype})`, tensorName(layer, keyName), dtype);
    }
  }
  const readsHidden = method.budget?.needs.includes("hidden states") === true;
  if (readsHidden) checkHidden(file, layers, tokens, method);
  const hasRotatedQueries = wordOf(file, "query_rope", ["pre", "post"], "post") === "post";
  const hasRotatedKeys = keyName === "key_rope";
  const why = hasRotatedKeys
    ? "queries before RoPE are to be turned"
    : `${tensorName(0, "key")} comes before RoPE`;
  const isTurned = !hasRotatedKeys || !hasRotatedQueries;
  const dtype = dtypes[key.dtype as keyof typeof dtypes];
  const rope = isTurned ? ropeOf(file, headDim, why) : undefined;
  const shape = { layers, queryHeads, kvHeads, tokens, headDim };
  return { ...shape, dtype, keyName, rope, hasRotatedQueries, readsHidden };
}

/** The residual stream of every layer, all of one width. */
function checkHidden(file: SafetensorsFile, layers: number, tokens: number, method: Method): void {
  const why = `method ${method.id} needs it`;
  const first = entryOf(file, tensorName(0, "hidden_in"), why);
  const width = first.shape[1] ?? 0;
  if (first.shape.length !== 2 || first.shape[0] !== tokens || width === 0) {
    throw inputError(`shape [${tokens}, width]`, tensorName(0, "hidden_in"), first.shape);
  }
  for (let layer = 0; layer < layers; layer++) {
    for (const part of ["hidden_in", "hidden_out"]) {
      checkTensor(file, tensorName(layer, part), [tokens, width], why);
    }
  }
}

/** Layers are numbered from 0; the highest number counts them, and a gap shows as a missing tensor. */
function layersOf(file: SafetensorsFile): number {
  let layers = 0;
  for (const name of file.tensors.keys()) {
    const match = /^layers\.(0|[1-9]\d{0,6})\.(query|key|key_rope|value)$/.exec(name);
    if (match !== null) layers = Math.max(layers, Number(match[1]) + 1);
  }
  if (layers > 0) return layers;
  throw missing(
    "a tensor",
    tensorName(0, "query"),
    "no layers.<l>.query, .key, .value in the file",
  );
}

function keysOf(file: SafetensorsFile, layers: number, method: Method): "key" | "key_rope" {
  if (needsRope(method)) return "key";
  const hasRotated = Array.from({ length: layers }, (_, layer) =>
    file.tensors.has(tensorName(layer, "key_rope")),
  );
  return hasRotated.every(Boolean) ? "key_rope" : "key";
}

function entryOf(file: SafetensorsFile, name: string, why: string): TensorEntry {
  const entry = file.tensors.get(name);
  if (entry === undefined) throw missing("a tensor", name, why);
  return entry;
}

function checkRank(name: string, { shape }: TensorEntry): [number, number, number] {
  if (shape.length !== 3 || shape.some((n) => n === 0)) {
    throw inputError("shape [heads, tokens, headDim] without zeros", name, shape);
  }
  return [shape[0], shape[1], shape[2]];
}

function checkTensor(
  file: SafetensorsFile,
  name: string,
  expected: readonly number[],
  why = "every layer has one",
): void {
  const { shape, dtype } = entryOf(file, name, why);
  if (shape.length !== expected.length || shape.some((n, axis) => n !== expected[axis])) {
    throw inputError(`shape ${describeValue(expected)}`, name, shape);
  }
  if (!Object.hasOwn(dtypes, dtype)) throw inputError("dtype F32, F16 or BF16", name, dtype);
}

function wordOf(
  file: SafetensorsFile,
  name: string,
  words: readonly string[],
  otherwise: string,
): string {
  const word = file.metadata.get(name) ?? otherwise;
  if (words.includes(word)) return word;
  throw inputError(words.map(describeValue).join(" or "), `metadata.${name}`, word);
}

function numberOf(text: string): number {
  return text.trim() === "" ? Number.NaN : Number(text);
}

function ropeOf(file: SafetensorsFile, headDim: number, why: string) {
  const theta = file.metadata.get("rope_theta");
  if (theta === undefined) throw missing("metadata", "metadata.rope_theta", why);
  if (!(numberOf(theta) > 1) || !Number.isFinite(Number(theta))) {
    throw inputError("a number above 1", "metadata.rope_theta", theta);
  }
  if (!file.metadata.has("rope_style")) throw missing("metadata", "metadata.rope_style", why);
  const style = wordOf(file, "rope_style", ["norm", "neox"], "");
  const dims = file.metadata.get("rope_dims") ?? String(headDim);
  const nRot = numberOf(dims);
  if (!Number.isInteger(nRot) || nRot < 2 || nRot > headDim || nRot % 2 !== 0) {
    throw inputError(`an even number in [2, ${headDim}]`, "metadata.rope_dims", dims);
  }
  return { theta: Number(theta), style: style as "norm" | "neox", nRot };
}
