// Running the command without a process, and dumps to run it on.
import { mkdtempSync, readFileSync, rmSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { afterAll } from "vitest";
import { run } from "../../lib/cli/run.ts";
import { openSafetensors } from "../../lib/cli/safetensors-reader.ts";
import { type OutputTensor, writeSafetensors } from "../../lib/cli/safetensors-writer.ts";
import { Prng } from "../harness/prng.ts";
import { fromBits, roundTo, toBits } from "../oracle/float-formats.ts";

/** A folder of the calling test file, gone when it is done. */
export function scratchFolder(): string {
  const folder = mkdtempSync(join(tmpdir(), "spindlekv-cli-"));
  afterAll(() => rmSync(folder, { recursive: true, force: true }));
  return folder;
}

export interface RunResult {
  readonly status: number;
  readonly stdout: string;
  readonly stderr: string;
}

export async function runCommand(...argv: string[]): Promise<RunResult> {
  let stdout = "";
  let stderr = "";
  const status = await run(argv, {
    stdout: { write: (text) => (stdout += text) },
    stderr: { write: (text) => (stderr += text) },
  });
  return { status, stdout, stderr };
}

export interface Shape {
  readonly layers: number;
  readonly queryHeads: number;
  readonly kvHeads: number;
  readonly tokens: number;
  readonly headDim: number;
}

export type DumpDType = "F32" | "F16" | "BF16";

/** A dump in float64, every number one that the file's dtype can hold. */
export interface DumpValues {
  readonly shape: Shape;
  readonly dtype: DumpDType;
  readonly rope: { readonly theta: number; readonly style: "norm" | "neox"; readonly nRot: number };
  /** Per layer [heads, tokens, headDim]; queries after RoPE unless said otherwise. */
  readonly layers: readonly {
    readonly query: Float64Array;
    readonly queryPre: Float64Array;
    readonly key: Float64Array;
    readonly keyRope: Float64Array;
    readonly value: Float64Array;
    /** The residual stream before the layer and after its attention, [tokens, kHiddenWidth]. */
    readonly hiddenIn: Float64Array;
    readonly hiddenOut: Float64Array;
  }[];
}

/** Width of the residual stream in a random dump. */
export const kHiddenWidth = 24;

type Rope = DumpValues["rope"];

/** A row turned to a position (turned back when it is negative), in float64. */
export function turnRow(row: ArrayLike<number>, position: number, rope: Rope): number[] {
  const turned = Array.from(row);
  for (let i = 0; i < rope.nRot / 2; i++) {
    const angle = position * rope.theta ** ((-2 * i) / rope.nRot);
    const [a, b] = rope.style === "norm" ? [2 * i, 2 * i + 1] : [i, i + rope.nRot / 2];
    turned[a] = row[a] * Math.cos(angle) - row[b] * Math.sin(angle);
    turned[b] = row[b] * Math.cos(angle) + row[a] * Math.sin(angle);
  }
  return turned;
}

function turnAll(rows: Float64Array, shape: Shape, rope: Rope, round: (x: number) => number) {
  const turned = new Float64Array(rows.length);
  const { headDim, tokens } = shape;
  for (let row = 0; row < rows.length / headDim; row++) {
    const start = row * headDim;
    const values = turnRow(rows.subarray(start, start + headDim), row % tokens, rope);
    turned.set(values.map(round), start);
  }
  return turned;
}

export interface DumpOptions {
  readonly seed: number;
  readonly shape: Shape;
  readonly dtype?: DumpDType;
  readonly style?: "norm" | "neox";
  readonly nRot?: number;
  /** Distinct directions of keys and values before noise; default: every row has its own. */
  readonly directions?: number;
}

/** Random keys, values and queries; with `directions`, rows that a codebook can share. */
export function randomDump(options: DumpOptions): DumpValues {
  const { seed, shape, dtype = "F32", directions } = options;
  const { layers, queryHeads, kvHeads, tokens, headDim } = shape;
  const random = new Prng(seed);
  // A source of its own: dumps without hidden states keep their numbers.
  const hiddenRandom = new Prng(seed + 1_000_000);
  const rope = { theta: 10_000, style: options.style ?? "norm", nRot: options.nRot ?? headDim };
  const round = (x: number) => roundTo(dtype.toLowerCase() as "f32", x);
  const normals = (count: number, scale: number) =>
    Float64Array.from({ length: count }, () => round(scale * random.normal()));
  const shared = (heads: number) => {
    if (directions === undefined) return normals(heads * tokens * headDim, 1);
    const centres = normals(directions * headDim, 1);
    const rows = new Float64Array(heads * tokens * headDim);
    for (let row = 0; row < heads * tokens; row++) {
      const centre = random.integer(0, directions - 1) * headDim;
      const magnitude = 0.5 + random.uniform();
      for (let d = 0; d < headDim; d++) {
        const noise = 0.02 * random.normal();
        rows[row * headDim + d] = round(magnitude * (centres[centre + d] + noise));
      }
    }
    return rows;
  };
  return {
    shape,
    dtype,
    rope,
    layers: Array.from({ length: layers }, (_, l) => {
      const hiddenIn = Float64Array.from({ length: tokens * kHiddenWidth }, () =>
        round(hiddenRandom.normal()),
      );
      const hiddenOut = hiddenIn.map((x) => round(x + 0.2 * (l + 1) * hiddenRandom.normal()));
      const queryPre = normals(queryHeads * tokens * headDim, 2);
      const key = shared(kvHeads);
      const value = shared(kvHeads);
      const query = turnAll(queryPre, shape, rope, round);
      const keyRope = turnAll(key, shape, rope, round);
      return { query, queryPre, key, keyRope, value, hiddenIn, hiddenOut };
    }),
  };
}

/** The values in the dtype of a file; each is one of its numbers. */
export function encode(name: string, dtype: DumpDType, shape: number[], values: Float64Array) {
  if (dtype === "F32") return { name, dtype, shape, data: Float32Array.from(values) };
  const format = dtype === "F16" ? "f16" : "bf16";
  return { name, dtype, shape, data: Uint16Array.from(values, (x) => toBits(format, x)) };
}

export type DumpPart = "query" | "key" | "key_rope" | "value" | "hidden_in" | "hidden_out";

export interface DumpParts {
  /** Tensors of each layer. */
  readonly parts?: readonly DumpPart[];
  readonly queryRope?: "pre";
  readonly metadata?: Readonly<Record<string, string>>;
}

/** The tensors of a dump, for writing as they are or with something broken. */
export function tensorsOf(dump: DumpValues, options: DumpParts = {}): OutputTensor[] {
  const { queryHeads, kvHeads, tokens, headDim } = dump.shape;
  const parts = options.parts ?? ["query", "key", "key_rope", "value"];
  return dump.layers.flatMap((layer, l) =>
    parts.map((part) => {
      const heads = part === "query" ? queryHeads : kvHeads;
      const query = options.queryRope === "pre" ? layer.queryPre : layer.query;
      const values = {
        query,
        key: layer.key,
        key_rope: layer.keyRope,
        value: layer.value,
        hidden_in: layer.hiddenIn,
        hidden_out: layer.hiddenOut,
      }[part];
      const isHidden = part.startsWith("hidden");
      const shape = isHidden ? [tokens, kHiddenWidth] : [heads, tokens, headDim];
      return encode(`layers.${l}.${part}`, dump.dtype, shape, values);
    }),
  );
}

/** Metadata of a dump. */
export function metadataOf(dump: DumpValues, options: DumpParts = {}): Record<string, string> {
  const { theta, style, nRot } = dump.rope;
  return {
    rope_theta: String(theta),
    rope_style: style,
    ...(nRot === dump.shape.headDim ? {} : { rope_dims: String(nRot) }),
    ...(options.queryRope === undefined ? {} : { query_rope: options.queryRope }),
    ...options.metadata,
  };
}

export async function writeDump(
  path: string,
  dump: DumpValues,
  options: DumpParts = {},
): Promise<void> {
  await writeSafetensors(path, tensorsOf(dump, options), metadataOf(dump, options));
}

/** One tensor of an output file as plain numbers. */
export interface ReadTensor {
  readonly dtype: string;
  readonly shape: readonly number[];
  readonly values: readonly number[];
}

const decoders: Record<string, (buffer: ArrayBuffer) => number[]> = {
  F32: (buffer) => Array.from(new Float32Array(buffer)),
  F16: (buffer) => Array.from(new Uint16Array(buffer), (bits) => fromBits("f16", bits)),
  BF16: (buffer) => Array.from(new Uint16Array(buffer), (bits) => fromBits("bf16", bits)),
  I32: (buffer) => Array.from(new Int32Array(buffer)),
  I64: (buffer) => Array.from(new BigInt64Array(buffer), Number),
};

/** Everything of a file. */
export async function readAll(path: string) {
  await using file = await openSafetensors(path);
  const tensors = new Map<string, ReadTensor>();
  for (const [name, { dtype, shape }] of file.tensors) {
    const decode = decoders[dtype] ?? ((buffer) => Array.from(new Uint8Array(buffer)));
    tensors.set(name, { dtype, shape, values: decode(await file.read(name)) });
  }
  return { tensors, metadata: new Map(file.metadata) };
}

/** The file's bytes, or undefined when there is none. */
export function bytesOf(path: string): Buffer | undefined {
  try {
    return readFileSync(path);
  } catch {
    return undefined;
  }
}
