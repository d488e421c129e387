/** Typed reads of GGUF metadata. */
import { fileError } from "./failures.js";
import type { GgufFile } from "./gguf.js";

/** @throws Error when the value is anything but a number above 0, or absent without a fallback */
export function positiveNumber(file: GgufFile, key: string, fallback?: number): number {
  const value = file.metadata.get(key) ?? fallback;
  if (typeof value !== "number" || !(value > 0)) {
    throw fileError(`gguf-llama: expected a positive number for ${key}, got ${value}`);
  }
  return value;
}
