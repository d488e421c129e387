/** Arrays of numbers -> the typed array of a dtype, refusing what it cannot hold. */
import { argumentError } from "./errors.js";
import type { TensorData } from "./native.js";
import type { DType } from "./tensor.js";

const integerRanges = {
  i32: [-(2 ** 31), 2 ** 31 - 1],
  u16: [0, 2 ** 16 - 1],
  u8: [0, 2 ** 8 - 1],
} as const;

function toIntegers(
  op: string,
  dtype: keyof typeof integerRanges,
  data: readonly unknown[],
): TensorData {
  const [least, most] = integerRanges[dtype];
  const isHeld = (value: unknown) =>
    Number.isInteger(value) && (value as number) >= least && (value as number) <= most;
  const wrong = data.findIndex((value) => !isHeld(value));
  if (wrong >= 0) {
    const expected = `integers in [${least}, ${most}]`;
    throw argumentError(op, expected, `data[${wrong}]`, data[wrong]);
  }
  const numbers = data as readonly number[];
  if (dtype === "i32") return Int32Array.from(numbers);
  return dtype === "u16" ? Uint16Array.from(numbers) : Uint8Array.from(numbers);
}

function toBigIntegers(op: string, data: readonly unknown[]): BigUint64Array {
  const most = 2n ** 64n - 1n;
  const wrong = data.findIndex((n) => typeof n !== "bigint" || n < 0n || n > most);
  if (wrong >= 0) throw argumentError(op, "bigints in [0, 2^64)", `data[${wrong}]`, data[wrong]);
  return BigUint64Array.from(data as readonly bigint[]);
}

/**
 * `data` as a typed array; typed arrays pass as they are, for the native side to judge.
 *
 * @internal
 */
export function toTyped(
  op: string,
  dtype: DType,
  data: TensorData | readonly number[] | readonly bigint[],
): TensorData {
  if (ArrayBuffer.isView(data)) return data;
  if (!Array.isArray(data)) {
    throw argumentError(op, "a typed array or an array of numbers", "data", data);
  }
  const values: readonly unknown[] = data;
  if (dtype === "u64") return toBigIntegers(op, values);
  if (dtype === "i32" || dtype === "u16" || dtype === "u8") return toIntegers(op, dtype, values);
  const wrong = values.findIndex((value) => typeof value !== "number");
  if (wrong >= 0) throw argumentError(op, "numbers", `data[${wrong}]`, values[wrong]);
  return Float32Array.from(values as readonly number[]);
}
