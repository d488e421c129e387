/** Host arrays on a device that does not read them: tensors stand for them while a call runs. */
import type { Device } from "../device.js";
import { argumentError } from "../errors.js";
import { Tensor } from "../tensor.js";

/** Rows `[heads, tokens, headDim]`: a Tensor (f32, f16 or bf16; any strides with dense rows) or a Float32Array. */
export type Rows = Tensor | Float32Array;

export function readsHostMemory(device: Device): boolean {
  return device.kind !== "cuda";
}

/** Tensors that stand for host arrays during a call. */
export class Staging implements Disposable {
  readonly #copies: Tensor[] = [];
  readonly #results: { readonly tensor: Tensor; readonly out: Float32Array }[] = [];

  /** Whether results have to be read back. */
  get hasResults(): boolean {
    return this.#results.length > 0;
  }

  /** Rows that are read. */
  input(op: string, name: string, device: Device, shape: readonly number[], rows: Rows): Rows {
    if (!(rows instanceof Float32Array)) return rows;
    checkLength(op, name, shape, rows);
    const copy = Tensor.from(device, "f32", shape, rows);
    this.#copies.push(copy);
    return copy;
  }

  /** Rows that are written. */
  output(op: string, name: string, device: Device, shape: readonly number[], rows: Rows): Rows {
    if (!(rows instanceof Float32Array)) return rows;
    checkLength(op, name, shape, rows);
    const tensor = Tensor.zeros(device, "f32", shape);
    this.#copies.push(tensor);
    this.#results.push({ tensor, out: rows });
    return tensor;
  }

  /** Copies the results out. */
  async finish(): Promise<void> {
    for (const { tensor, out } of this.#results) out.set((await tensor.read()) as Float32Array);
  }

  [Symbol.dispose](): void {
    for (const tensor of this.#copies.splice(0)) tensor.dispose();
  }
}

/**
 * Runs a call over tensors that stand for host arrays. They are freed when it fails, or when its results are read.
 *
 * @returns a promise where results have to be read
 */
export function runStaged(call: (staging: Staging) => void): void | Promise<void> {
  const staging = new Staging();
  try {
    call(staging);
  } catch (error) {
    staging[Symbol.dispose]();
    throw error;
  }
  if (staging.hasResults) return staging.finish().finally(() => staging[Symbol.dispose]());
  staging[Symbol.dispose]();
  return undefined;
}

function checkLength(op: string, name: string, shape: readonly number[], rows: Float32Array): void {
  const wanted = shape.reduce((total, size) => total * size, 1);
  if (rows.length === wanted) return;
  throw argumentError(op, `a Float32Array of [${shape.join(", ")}]`, name, rows.length);
}
