/** Reading a dump's rows: onto the device as they are stored, and the last queries as a cache wants them. */
import type { Device } from "../device.js";
import { spindleError } from "../errors.js";
import { rope } from "../ops/index.js";
import { makeRopeTable } from "../rope.js";
import { Tensor } from "../tensor.js";
import { type Dump, tensorName } from "./dump.js";
import type { SafetensorsFile, TensorEntry } from "./safetensors-reader.js";

const dtypes = { F32: "f32", F16: "f16", BF16: "bf16" } as const;

/** A tensor of the file with its dtype; the caller disposes it. */
export async function readRows(
  file: SafetensorsFile,
  device: Device,
  name: string,
): Promise<Tensor> {
  const { dtype, shape } = file.tensors.get(name) as TensorEntry;
  const buffer = await file.read(name);
  const data = dtype === "F32" ? new Float32Array(buffer) : new Uint16Array(buffer);
  return Tensor.from(device, dtypes[dtype as keyof typeof dtypes], [...shape], data);
}

/** The same rows in another dtype; takes over `rows`. */
export async function convertRows(rows: Tensor, dtype: "f32" | "f16" | "bf16"): Promise<Tensor> {
  if (rows.dtype === dtype) return rows;
  using source = rows;
  return Tensor.from(
    source.device,
    dtype,
    [...source.shape],
    (await source.read()) as Float32Array,
  );
}

/**
 * Refuses rows that are not finite, naming the first such element.
 *
 * @param rows [heads, tokens, headDim] or [tokens, width]
 * @param name tensor in the file
 * @param first position of the rows' first token
 * @throws {SpindleKVError} ERR_SPINDLEKV_NON_FINITE
 */
export async function checkFinite(rows: Tensor, name: string, first: number, why: string) {
  const values = (await rows.read()) as Float32Array;
  const wrong = values.findIndex((value) => !Number.isFinite(value));
  if (wrong < 0) return;
  const width = rows.shape.at(-1) as number;
  const tokens = rows.shape.at(-2) as number;
  const row = Math.floor(wrong / width);
  // Heads come before the tokens, where there are any.
  const heads = rows.shape.length > 2 ? [Math.floor(row / tokens)] : [];
  const place = [...heads, first + (row % tokens), wrong % width];
  const message = `expected finite numbers for ${name}, got ${values[wrong]} at [${place.join(", ")}] (${why})`;
  throw spindleError("ERR_SPINDLEKV_NON_FINITE", "apply", message);
}

/**
 * The last `count` queries of a layer in f32, before RoPE if the cache has `rope` and after it otherwise, turned
 * where the file has them the other way.
 *
 * @returns [queryHeads, count, headDim]; the caller disposes it
 */
export async function readLastQueries(
  file: SafetensorsFile,
  device: Device,
  dump: Dump,
  layer: number,
  count: number,
): Promise<Tensor> {
  const { queryHeads, tokens, headDim } = dump;
  const first = tokens - count;
  using all = await readRows(file, device, tensorName(layer, "query"));
  using last = all.view({
    offset: first * headDim,
    shape: [queryHeads, count, headDim],
    strides: [tokens * headDim, headDim, 1],
  });
  const shape = [queryHeads, count, headDim];
  const queries = Tensor.from(device, "f32", shape, (await last.read()) as Float32Array);
  const hasRotatedKeys = dump.keyName === "key_rope";
  if (dump.rope === undefined || hasRotatedKeys === dump.hasRotatedQueries) return queries;
  try {
    const { theta, style, nRot } = dump.rope;
    using table = makeRopeTable(device, { theta, nRot, positions: tokens });
    const order = Array.from({ length: count }, (_, t) => first + t);
    using positions = Tensor.from(device, "i32", [count], order);
    const turn = hasRotatedKeys ? { positionsTo: positions } : { positionsFrom: positions };
    rope({ in: queries, out: queries, ...turn, rope: { table, style } });
    await device.synchronize();
    return queries;
  } catch (error) {
    queries.dispose();
    throw error;
  }
}
