/** Tensors of a case on one device, freed together, and the seeded values they are filled with. */
import { type Device, type DType, makeRopeTable, type Run, Tensor } from "spindlekv";
import { Prng } from "../../test/harness/prng.ts";
import { roundTo, toBits } from "../../test/oracle/float-formats.ts";
import type { RopeValues } from "../../test/oracle/types.ts";

type Data = Parameters<typeof Tensor.from>[3];

const kBlockElements = 1 << 20;
const kSeed = 20_250_703;

export class Workbench implements Disposable {
  readonly device: Device;
  readonly random = new Prng(kSeed);
  readonly #tensors: Tensor[] = [];
  #block: Uint16Array | undefined;
  #offset = 0;

  constructor(device: Device) {
    this.device = device;
  }

  from<T extends DType>(dtype: T, shape: readonly number[], data: Data): Tensor<T> {
    return this.#own(Tensor.from(this.device, dtype, shape, data));
  }

  zeros<T extends DType>(dtype: T, shape: readonly number[]): Tensor<T> {
    return this.#own(Tensor.zeros(this.device, dtype, shape));
  }

  /** Standard normal values. */
  normals(count: number): Float32Array {
    return Float32Array.from({ length: count }, () => this.random.normal());
  }

  /**
   * A tensor of standard normal values in f16. They come from one block of a million, begun at another place
   * each time: drawing them all would take longer than the benchmark.
   */
  normalF16(shape: readonly number[]): Tensor<"f16"> {
    this.#block ??= Uint16Array.from({ length: kBlockElements }, () =>
      toBits("f16", roundTo("f16", this.random.normal())),
    );
    const elements = shape.reduce((total, size) => total * size, 1);
    const bits = new Uint16Array(elements);
    for (let at = 0; at < elements; ) {
      const piece = this.#block.subarray(this.#offset, this.#offset + elements - at);
      bits.set(piece, at);
      at += piece.length;
      this.#offset = (this.#offset + piece.length) % kBlockElements;
    }
    this.#offset = (this.#offset + 8_209) % kBlockElements;
    return this.from("f16", shape, bits);
  }

  /** Positions first, first + 1, ... */
  positions(count: number, first = 0): Tensor<"i32"> {
    return this.from(
      "i32",
      [count],
      Int32Array.from({ length: count }, (_, i) => first + i),
    );
  }

  /** A raw run of one KV head with normal keys and values, stored after RoPE. */
  run(slots: number, headDim: number): Run {
    return {
      codec: "raw",
      rotated: true,
      k: this.normalF16([slots, headDim]),
      v: this.normalF16([slots, headDim]),
      positions: this.positions(slots),
    };
  }

  /** An empty raw run. */
  emptyRun(slots: number, headDim: number): Run {
    return {
      codec: "raw",
      k: this.zeros("f16", [slots, headDim]),
      v: this.zeros("f16", [slots, headDim]),
      positions: this.zeros("i32", [slots]),
    };
  }

  /** The RoPE of Llama 3: theta 500,000, all dims. */
  ropeTable(positions: number, headDim: number): Tensor<"f32"> {
    return this.#own(makeRopeTable(this.device, { theta: 500_000, nRot: headDim, positions }));
  }

  [Symbol.dispose](): void {
    for (const tensor of this.#tensors.splice(0)) tensor.dispose();
  }

  #own<T extends DType>(tensor: Tensor<T>): Tensor<T> {
    this.#tensors.push(tensor);
    return tensor;
  }
}

/** A table as the oracles read it. */
export async function ropeValues(table: Tensor, style: "norm" | "neox"): Promise<RopeValues> {
  return { cosSin: (await table.read()) as Float32Array, nRot: table.shape[1] * 2, style };
}
