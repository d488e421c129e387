// Backends are tested one after the other on the same cases: what an oracle says of a case is worked out once.
import { createHash, type Hash } from "node:crypto";

function addTo(hash: Hash, value: unknown): void {
  if (ArrayBuffer.isView(value)) {
    hash.update(`${value.constructor.name} ${value.byteLength};`);
    hash.update(new Uint8Array(value.buffer, value.byteOffset, value.byteLength));
  } else if (Array.isArray(value) && value.every((item) => typeof item === "number")) {
    hash.update("numbers;");
    addTo(hash, Float64Array.from(value));
  } else if (Array.isArray(value)) {
    hash.update(`[${value.length};`);
    for (const item of value) addTo(hash, item);
  } else if (typeof value === "object" && value !== null) {
    const entries = Object.entries(value).filter(([, item]) => item !== undefined);
    hash.update(`{${entries.length};`);
    for (const [key, item] of entries.sort(([a], [b]) => (a < b ? -1 : 1))) {
      hash.update(`${key}:`);
      addTo(hash, item);
    }
  } else if (typeof value === "number") {
    hash.update(Object.is(value, -0) ? "-0;" : `${value};`);
  } else if (value === undefined || typeof value === "boolean" || typeof value === "string") {
    hash.update(`${typeof value} ${value};`);
  } else {
    throw new TypeError(`expected plain data, got a ${typeof value}`);
  }
}

/**
 * The same function, which looks for arguments of the same content before it computes. They are plain data: numbers,
 * strings, typed arrays, and arrays and objects of them. Callers share the result and must not write to it.
 */
export function memoised<A extends readonly unknown[], R>(
  compute: (...args: A) => R,
): (...args: A) => R {
  const results = new Map<string, R>();
  return (...args) => {
    const hash = createHash("sha1");
    addTo(hash, args);
    const key = hash.digest("base64");
    if (!results.has(key)) results.set(key, compute(...args));
    return results.get(key)!;
  };
}
