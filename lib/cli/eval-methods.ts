/** The methods of an evaluation: names of the registry, each perhaps with options of its own. */
import { readFileSync } from "node:fs";
import type { BudgetTarget, Method } from "../cache/method.js";
import { argumentError, spindleError } from "../errors.js";
import { findMethod, makeMethod, type MethodSpec, methodSpecs } from "./methods.js";

/** One method to try. */
export interface EvalMethod {
  /** What it is called in the report: its name and the options it was given. */
  readonly label: string;
  readonly spec: MethodSpec;
  readonly options: Readonly<Record<string, unknown>>;
  /** Whether it takes a target; the others run once. */
  readonly hasTarget: boolean;
}

/**
 * Reads `--methods`: names separated by commas, `all` for every one; options follow a name as `:option=value`, so
 * `streamingllm:positions=reindexed:sinks=8`; a value `@profile.json` stands for what is in the file.
 *
 * @throws {SpindleKVError} ERR_SPINDLEKV_ARGUMENT for a name or option that does not exist
 */
export function parseMethods(text: string): EvalMethod[] {
  const methods = text
    .split(",")
    .flatMap((part) => (part === "all" ? methodSpecs.flatMap(variantsOf) : [part]))
    .map(parseMethod);
  const labels = methods.map(({ label }) => label);
  const double = labels.find((label, i) => labels.indexOf(label) < i);
  if (double !== undefined) throw argumentError("eval", "each method once", "methods", double);
  return methods;
}

/** A method over the policies of others is as many methods as it has policies. */
function variantsOf({ name, options }: MethodSpec): string[] {
  const words = options.find((option) => option.name === "policy")?.type;
  return Array.isArray(words) ? words.map((word) => `${name}:policy=${word}`) : [name];
}

/** The method whose policy this one goes over, if that one is among `methods` as it is. */
export function policyOf(
  { options: { policy } }: EvalMethod,
  methods: readonly EvalMethod[],
): EvalMethod | undefined {
  return methods.find(({ label, spec }) => label === spec.name && spec.kebab === policy);
}

function parseMethod(text: string): EvalMethod {
  const [name, ...parts] = text.split(":");
  const spec = findMethod(name);
  const options = Object.fromEntries(
    parts.map((part) => {
      const at = part.indexOf("=");
      if (at < 1) throw argumentError("eval", "option=value after a colon", "methods", text);
      return [part.slice(0, at), readValue(part.slice(at + 1))];
    }),
  );
  const label = [spec.name, ...parts].join(":");
  return { label, spec, options, hasTarget: spec.hasTarget };
}

/** A word stays a word; numbers, booleans and null are read as such, and `@file` stands for the JSON in the file. */
function readValue(text: string): unknown {
  if (text.startsWith("@")) return readJson(text.slice(1));
  try {
    return JSON.parse(text);
  } catch {
    return text;
  }
}

function readJson(path: string): unknown {
  try {
    return JSON.parse(readFileSync(path, "utf8"));
  } catch (error) {
    const reason = (error as Error).message;
    const message = `eval: expected a file of JSON for methods, got ${JSON.stringify(path)}: ${reason}`;
    throw spindleError("ERR_SPINDLEKV_FILE", "eval", message, error);
  }
}

/**
 * The method with a target.
 *
 * @param target null where it takes none
 * @throws {SpindleKVError} ERR_SPINDLEKV_ARGUMENT when an option is wrong or one that it needs is missing
 */
export function makeEvalMethod({ spec, options }: EvalMethod, target: BudgetTarget | null): Method {
  return makeMethod(spec.name, JSON.stringify({ ...options, ...target })).method;
}
