/** `spindlekv apply`: runs a method on dumped tensors, by the same KVCache that a runtime drives. */
import { access, constants } from "node:fs/promises";
import { dirname } from "node:path";
import { KVCache } from "../cache/kv-cache.js";
import { queriesOf, sumsOf } from "../cache/method.js";
import { type DeviceName, openDevice } from "../device.js";
import { Tensor } from "../tensor.js";
import { checkDump, type Dump, tensorName } from "./dump.js";
import { outputFailure } from "./exit-status.js";
import { makeMethod } from "./methods.js";
import { type LayerRanking, readLayerResult, scoresWithoutAttention } from "./results.js";
import { checkFinite, convertRows, readLastQueries, readRows } from "./rows.js";
import { openSafetensors, type SafetensorsFile } from "./safetensors-reader.js";
import { type OutputTensor, writeSafetensors } from "./safetensors-writer.js";

/** What the command line asks for. */
export interface ApplyRequest {
  readonly method: string;
  /** JSON. */
  readonly options: string;
  readonly input: string;
  readonly output: string;
  /** undefined: CUDA when usable, else the CPU. */
  readonly device: DeviceName | undefined;
}

/**
 * Runs the command.
 *
 * @returns one line about what was done
 * @throws {SpindleKVError} of every kind; the output is then as it was before
 */
export async function apply(request: ApplyRequest): Promise<string> {
  const { spec, options, method } = makeMethod(request.method, request.options);
  await using file = await openSafetensors(request.input);
  const dump = checkDump(file, method);
  await checkWritable(request.output);
  using device = await openDevice(request.device);
  using cache = new KVCache(device, {
    layers: dump.layers,
    queryHeads: dump.queryHeads,
    kvHeads: dump.kvHeads,
    headDim: dump.headDim,
    dtype: dump.dtype,
    method,
    ...(dump.keyName === "key" && dump.rope !== undefined ? { rope: dump.rope } : {}),
  });
  for (let layer = 0; layer < dump.layers; layer++) await fillLayer(cache, file, dump, layer);
  const rankings: LayerRanking[] = [];
  await cache.compress({
    onScores: (layer, scores, rows) => {
      // Scores by position carry no numbers of their own.
      if (method.score?.source !== "position") rankings[layer] = { rows, scores };
    },
  });
  const tensors: OutputTensor[] = [];
  let keyRope = "post";
  for (let layer = 0; layer < dump.layers; layer++) {
    const attention = await attendLast(cache, file, dump, layer);
    const ranking = rankings[layer] ?? scoresWithoutAttention(cache, dump.tokens);
    const result = await readLayerResult(cache, layer, ranking, attention);
    tensors.push(...result.tensors);
    keyRope = result.keyRope;
  }
  const { bytes, nativeBytes, ratio, perLayer } = cache.stats();
  const slots = perLayer.reduce((sum, layer) => sum + layer.slots, 0);
  const report = {
    bytes: bytes.total,
    native_bytes: nativeBytes,
    ratio,
    slots,
    tokens: dump.tokens,
    device: device.name,
  };
  await write(request.output, tensors, {
    method: spec.name,
    options: JSON.stringify(options),
    report: JSON.stringify(report),
    key_reconstructed_rope: keyRope,
  });
  const all = dump.layers * dump.kvHeads * dump.tokens;
  const share = `${bytes.total} bytes, ${(100 * ratio).toFixed(2)} % of native f16`;
  return `${spec.name} on ${device.name}: ${slots} of ${all} slots kept, ${share}`;
}

/** Appends a layer's tokens and lets the queries that the method reads be recorded. */
async function fillLayer(
  cache: KVCache,
  file: SafetensorsFile,
  dump: Dump,
  layer: number,
): Promise<void> {
  const { device, method } = cache;
  const keyName = tensorName(layer, dump.keyName);
  const valueName = tensorName(layer, "value");
  using keys = await readRows(file, device, keyName);
  using values = await convertRows(await readRows(file, device, valueName), dump.dtype);
  const isRanked = method.score !== null && method.score.source !== "position";
  const isEncoded = method.codec.id === "codebook";
  if (isRanked || isEncoded) await checkFinite(keys, keyName, 0, `method ${method.id} reads it`);
  if (isEncoded) await checkFinite(values, valueName, 0, `method ${method.id} encodes it`);
  cache.layers[layer].append(keys, values);
  if (dump.readsHidden) await observeLayer(cache, file, dump, layer);
  const read = sumsOf(method) === "none" ? queriesOf(method) : dump.tokens;
  const count = Math.min(dump.tokens, read);
  if (count === 0) return;
  using queries = await readLastQueries(file, device, dump, layer, count);
  const name = tensorName(layer, "query");
  await checkFinite(queries, name, dump.tokens - count, `method ${method.id} ranks by it`);
  using unread = Tensor.zeros(device, "f32", [...queries.shape]);
  await cache.layers[layer].attend(queries, unread);
  await device.synchronize();
}

/** Shows the residual stream before and after a layer's attention. */
async function observeLayer(
  cache: KVCache,
  file: SafetensorsFile,
  { tokens }: Dump,
  layer: number,
): Promise<void> {
  const read = async (part: string) => {
    const name = tensorName(layer, part);
    using rows = await readRows(file, cache.device, name);
    await checkFinite(rows, name, 0, `method ${cache.method.id} reads it`);
    return (await rows.read()) as Float32Array;
  };
  cache.layers[layer].observe(await read("hidden_in"), await read("hidden_out"), tokens);
}

/** Output of the last query over what is stored now, [queryHeads, headDim]. */
async function attendLast(
  cache: KVCache,
  file: SafetensorsFile,
  dump: Dump,
  layer: number,
): Promise<Float32Array> {
  using query = await readLastQueries(file, cache.device, dump, layer, 1);
  using output = Tensor.zeros(cache.device, "f32", [...query.shape]);
  await cache.layers[layer].attend(query, output);
  return (await output.read()) as Float32Array;
}

/** Found out before the work, not after it. */
async function checkWritable(path: string): Promise<void> {
  try {
    await access(dirname(path), constants.W_OK);
  } catch (error) {
    throw outputFailure("apply", path, error);
  }
}

async function write(
  path: string,
  tensors: readonly OutputTensor[],
  metadata: Readonly<Record<string, string>>,
): Promise<void> {
  try {
    await writeSafetensors(path, tensors, metadata);
  } catch (error) {
    throw outputFailure("apply", path, error);
  }
}
