/** The methods that the command knows, by family. */
import { argumentError } from "../errors.js";
import { knownNames, readOptions } from "./method-options.js";
import type { MethodSpec } from "./method-spec.js";
import { methodsByAge } from "./specs/by-age.js";
import { methodsByAttention } from "./specs/by-attention.js";
import { methodsByCodebook } from "./specs/by-codebook.js";
import { methodsByHistory } from "./specs/by-history.js";
import { methodsByKeys } from "./specs/by-keys.js";

export type { MethodSpec } from "./method-spec.js";

export const methodSpecs: readonly MethodSpec[] = [
  ...methodsByAge,
  ...methodsByAttention,
  ...methodsByHistory,
  ...methodsByKeys,
  ...methodsByCodebook,
];

/**
 * The method of a name, or of the name in kebab case.
 *
 * @throws {SpindleKVError} ERR_SPINDLEKV_ARGUMENT for another name
 */
export function findMethod(name: string): MethodSpec {
  const spec = methodSpecs.find((candidate) => [candidate.name, candidate.kebab].includes(name));
  if (spec !== undefined) return spec;
  const known = methodSpecs.map((candidate) => candidate.name).join(", ");
  throw argumentError("apply", `one of ${known}`, "method", name);
}

/**
 * The method that `--method` and `--options` ask for.
 *
 * @returns its spec, the method, and the options as they were understood
 * @throws {SpindleKVError} ERR_SPINDLEKV_ARGUMENT when either is wrong
 */
export function makeMethod(name: string, text: string) {
  const spec = findMethod(name);
  const options = readOptions(spec.name, spec.options, text);
  const absent = Object.keys(spec.required).find((option) => options[option] === undefined);
  if (absent !== undefined) {
    throw argumentError("apply", `a value for method ${spec.name}`, `options.${absent}`, undefined);
  }
  return { spec, options, method: spec.make(options) };
}

/** The list that `spindlekv methods` prints. */
export function listMethods(): string {
  const blocks = methodSpecs.map((spec) => {
    const aliases = spec.kebab === spec.name ? "" : ` (or ${spec.kebab})`;
    const width = Math.max(...knownNames(spec.options).map((name) => name.length)) + 2;
    const lines = spec.options.map(({ name, type, default: usual, meaning }) => {
      const words = Array.isArray(type) ? `: ${type.join(" | ")}` : "";
      const otherwise = usual === undefined ? "" : ` [${JSON.stringify(usual)}]`;
      return `    ${name.padEnd(width)}${meaning}${words}${otherwise}`;
    });
    return [`${spec.name}${aliases}: ${spec.summary}`, ...lines].join("\n");
  });
  return `${blocks.join("\n\n")}\n\nIn brackets: the default. Exactly one of keep, bytes and tokens must be given where a method has them.\n`;
}
