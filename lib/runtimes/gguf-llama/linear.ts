/**
 * Matrix product of activations with a constant weight: out[t][o] = bias[o] + sum_i x[t][i] * weight[o][i].
 *
 * Shapes: x [tokens, inputs], weight [outputs, inputs], bias [outputs] or none, out [tokens, outputs], dense float32;
 * sums are float32 in the order of i, the bias comes last. Both sides are packed so that the inner loop (wasm-tile.ts) reads two
 * streams in order: weights once, when they are added, in panels of eight outputs; activations per call,
 * in panels of four tokens. All weights of a model share one WebAssembly memory, which V8 limits to
 * 4 GiB: about a billion parameters.
 */
import {
  createMemory,
  instantiateTiles,
  kTileOutputs,
  kTileTokens,
  type TileKernels,
} from "./wasm-tile.js";
import { callError } from "./failures.js";
import { addTo } from "./rows.js";

const kPageBytes = 65_536;

/** Tokens packed at a time: bounds the scratch; their panels and results stay in the L2 cache. */
const kBlockTokens = 64;

/** The memory in which the weights of one model live. */
export class LinearStore {
  private readonly memory = createMemory();
  private readonly kernels: TileKernels = instantiateTiles(this.memory);
  private usedBytes = 0;
  private scratch = { start: 0, bytes: 0 };

  /**
   * Packs a weight.
   *
   * @param weight `[outputs, inputs]`, read once and not kept
   * @param bias `[outputs]`, kept
   */
  add(
    weight: Float32Array,
    outputs: number,
    inputs: number,
    bias: Float32Array | null = null,
  ): Linear {
    if (weight.length !== outputs * inputs) {
      throw callError(
        `linear: expected ${outputs} x ${inputs} elements for weight, got ${weight.length}`,
      );
    }
    const paddedOutputs = roundUp(outputs, kTileOutputs);
    const start = this.allocate(paddedOutputs * inputs * 4);
    packRows(weight, outputs, inputs, kTileOutputs, this.floats(start, paddedOutputs * inputs));
    return new Linear(this, start, outputs, inputs, bias);
  }

  /** @internal Used by {@link Linear}: multiplies up to kBlockTokens rows. */
  multiply(linear: Linear, x: Float32Array, tokens: number, out: Float32Array): void {
    const { inputs, outputs, start } = linear;
    const stride = roundUp(outputs, kTileOutputs);
    const packedAt = this.reserve((kBlockTokens * inputs + kBlockTokens * stride) * 4);
    const resultAt = packedAt + kBlockTokens * inputs * 4;
    const tiled = tokens - (tokens % kTileTokens);
    packRows(x, tiled, inputs, kTileTokens, this.floats(packedAt, tiled * inputs));
    const rest = x.subarray(tiled * inputs, tokens * inputs); // rows of one tile each, as they are
    this.floats(packedAt + tiled * inputs * 4, rest.length).set(rest);

    const { tile1, tile4 } = this.kernels;
    for (let o = 0; o < outputs; o += kTileOutputs) {
      const panel = start + o * inputs * 4;
      let t = 0;
      for (; t < tiled; t += kTileTokens) {
        tile4(
          packedAt + t * inputs * 4,
          panel,
          resultAt + (t * stride + o) * 4,
          inputs,
          stride * 4,
        );
      }
      for (; t < tokens; t++) {
        tile1(
          packedAt + t * inputs * 4,
          panel,
          resultAt + (t * stride + o) * 4,
          inputs,
          stride * 4,
        );
      }
    }
    const result = this.floats(resultAt, tokens * stride);
    for (let t = 0; t < tokens; t++) {
      out.set(result.subarray(t * stride, t * stride + outputs), t * outputs);
    }
  }

  /** @internal Used by {@link Linear}: row `o` of the packed weight. */
  readRow({ inputs, start }: Linear, o: number, out: Float32Array): void {
    const first = o % kTileOutputs;
    const panel = this.floats(start + (o - first) * inputs * 4, kTileOutputs * inputs);
    for (let i = 0; i < inputs; i++) out[i] = panel[i * kTileOutputs + first];
  }

  /** A view of the memory; made anew each time, because growing the memory detaches old ones. */
  private floats(start: number, length: number): Float32Array {
    return new Float32Array(this.memory.buffer, start, length);
  }

  private allocate(bytes: number): number {
    const start = this.usedBytes;
    const missing = start + bytes - this.memory.buffer.byteLength;
    if (missing > 0) this.memory.grow(Math.ceil(missing / kPageBytes));
    this.usedBytes = roundUp(start + bytes, 64); // the next one starts on a cache line
    return start;
  }

  /** Start of at least `bytes` of scratch, valid until the next call. */
  private reserve(bytes: number): number {
    if (this.scratch.bytes < bytes) this.scratch = { start: this.allocate(bytes), bytes };
    return this.scratch.start;
  }
}

/** A weight matrix ready to multiply; made by {@link LinearStore.add}. */
export class Linear {
  readonly outputs: number;
  readonly inputs: number;
  /** @internal Offset of the packed weight in the store's memory, in bytes. */
  readonly start: number;
  private readonly store: LinearStore;
  private readonly bias: Float32Array | null;

  /** @internal */
  constructor(
    store: LinearStore,
    start: number,
    outputs: number,
    inputs: number,
    bias: Float32Array | null,
  ) {
    this.store = store;
    this.bias = bias;
    this.start = start;
    this.outputs = outputs;
    this.inputs = inputs;
  }

  /**
   * @param x `[tokens, inputs]`
   * @param tokens number of rows, 0 or more
   * @param out `[tokens, outputs]`, overwritten; must not overlap x
   */
  forward(x: Float32Array, tokens: number, out: Float32Array): void {
    const { inputs, outputs } = this;
    if (x.length < tokens * inputs || out.length < tokens * outputs) {
      throw callError(
        `linear: expected ${tokens} rows of ${inputs} and ${outputs}, ` +
          `got ${x.length} and ${out.length} elements`,
      );
    }
    for (let t = 0; t < tokens; t += kBlockTokens) {
      const count = Math.min(kBlockTokens, tokens - t);
      this.store.multiply(this, x.subarray(t * inputs), count, out.subarray(t * outputs));
    }
    if (this.bias === null) return;
    for (let t = 0; t < tokens; t++) addTo(out.subarray(t * outputs, (t + 1) * outputs), this.bias);
  }

  /** Copies row `output` of the weight, `[inputs]`, to the front of `out`. */
  row(output: number, out: Float32Array): void {
    this.store.readRow(this, output, out);
  }
}

/** Writes rows in panels: element i of the `panel` rows of a panel are neighbours. */
function packRows(
  source: Float32Array,
  rows: number,
  length: number,
  panel: number,
  target: Float32Array,
): void {
  for (let r = 0; r < rows; r++) {
    const base = (r - (r % panel)) * length + (r % panel);
    for (let i = 0; i < length; i++) target[base + i * panel] = source[r * length + i];
  }
}

function roundUp(value: number, multiple: number): number {
  return Math.ceil(value / multiple) * multiple;
}
