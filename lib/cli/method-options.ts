/** Options of methods as they come from the command line: JSON, checked by name and type before any work. */
import { argumentError, describeValue, spindleError } from "../errors.js";

/** One option of a method. */
export interface OptionSpec {
  readonly name: string;
  /**
   * What a value must be; an array lists the words that are allowed. "layers": a list of layers or "sixteenth";
   * "schedule": a word or an object as `Schedule` has it; "object": any, which the method checks.
   */
  readonly type:
    | "number"
    | "boolean"
    | "pool"
    | "layers"
    | "schedule"
    | "object"
    | readonly string[];
  /** One line: meaning, unit and range. */
  readonly meaning: string;
  /** Of the method it belongs to; left out: there is none. */
  readonly default?: unknown;
}

/** Exactly one of these says how much stays. */
export const targetOptions: readonly OptionSpec[] = [
  { name: "keep", type: "number", meaning: "fraction (0, 1] of the native f16 bytes" },
  { name: "bytes", type: "number", meaning: "bytes of the whole cache" },
  { name: "tokens", type: "number", meaning: "slots per layer and KV head on average" },
];

const kMeaningOfPool =
  'null, or kind "mean"|"max", odd kernel, divisor "kernel"|"valid"; short: pooling, kernel';

/** First slots that are never dropped. */
export const sinksOption: OptionSpec = {
  name: "sinks",
  type: "number",
  meaning: "first slots that always stay",
};

/** Last slots that are never dropped. */
export const recentOption: OptionSpec = {
  name: "recent",
  type: "number",
  meaning: "last slots that always stay",
};

/** Layers that are left alone. */
export const skipLayersOption: OptionSpec = {
  name: "skipLayers",
  type: "layers",
  meaning: 'layers that keep everything, or "sixteenth": the first sixteenth of them',
};

/** Who shares a ranking. */
export const scopeOption: OptionSpec = {
  name: "scope",
  type: ["kv-head", "layer"],
  meaning: "one ranking for each KV head, or for all heads of a layer",
};

/** When compression happens; a dump is compressed once. */
export const scheduleOption: OptionSpec = {
  name: "schedule",
  type: "schedule",
  meaning:
    '"after-prefill", "per-layer", "every-step", {"every": n} or {"overflow": n}; no effect on a dump',
};

/** With rankings per query head. */
export const visibilityOption: OptionSpec = {
  name: "visibility",
  type: ["group", "head"],
  meaning: "who sees a slot that some heads selected, with group unfold",
};

/** Options of the observation window. */
export const windowOptions: readonly OptionSpec[] = [
  { name: "window", type: "number", meaning: "last queries that rank, 1..1024" },
  { name: "pool", type: "pool", meaning: kMeaningOfPool },
  { name: "norm", type: ["sum", "window", "causalCount"], meaning: "divisor of summed attention" },
  {
    name: "group",
    type: ["unfold", "mean", "max", "sum"],
    meaning: "how the query heads of a KV head share a ranking",
  },
  scopeOption,
  { name: "statistic", type: ["sum", "max"], meaning: "of the window's probabilities" },
  {
    name: "gamma",
    type: "number",
    meaning: "weight of the variance over the window's queries beside their mean, >= 0",
  },
  {
    name: "distanceWeight",
    type: "number",
    meaning: "weight of the last query relative to the first, > 0",
  },
  {
    name: "windowFraction",
    type: "number",
    meaning: "window at most so much of the tokens, (0, 1]",
  },
  {
    name: "valueNorm",
    type: ["none", "l2", "l1-max"],
    meaning: "scores times the L2 norm of the slot's value, or the largest L1 norm of the head's",
  },
];

/** Options of the codebook. */
export const codebookOptions: readonly OptionSpec[] = [
  { name: "thetaK", type: "number", meaning: "cosine above which keys share a codeword" },
  { name: "thetaV", type: "number", meaning: "the same for values" },
  {
    name: "theta",
    type: ["fixed", "auto"],
    meaning: "auto: what is left of the budget raises both",
  },
  { name: "refine", type: "number", meaning: "rounds of spherical k-means, 0..100" },
  { name: "codewords", type: "number", meaning: "codewords per codebook at most; 0: no limit" },
  { name: "recentRaw", type: "boolean", meaning: "keep the protected slots raw" },
  {
    name: "insertInterval",
    type: "number",
    meaning: "decoded tokens join the codebook in blocks; no effect on a dump",
  },
];

/** Short spellings of `pool`, for methods that have it. */
const kPoolShort = ["pooling", "kernel"];

/** Every option name that a method takes. */
export function knownNames(specs: readonly OptionSpec[]): string[] {
  const names = specs.map(({ name }) => name);
  return names.includes("pool") ? [...names, ...kPoolShort] : names;
}

/**
 * Reads and checks `--options`.
 *
 * @param method its name, for messages
 * @param specs what the method takes
 * @param text a JSON object
 * @returns the options as the method's function takes them
 * @throws {SpindleKVError} ERR_SPINDLEKV_ARGUMENT for anything that is not JSON, not known or of another type
 */
export function readOptions(
  method: string,
  specs: readonly OptionSpec[],
  text: string,
): Record<string, unknown> {
  let given: unknown;
  try {
    given = JSON.parse(text);
  } catch (error) {
    const reason = error instanceof Error ? error.message : String(error);
    const message = `expected a JSON object for options, got ${describeValue(text)} (${reason})`;
    throw spindleError("ERR_SPINDLEKV_ARGUMENT", "apply", message, error);
  }
  if (typeof given !== "object" || given === null || Array.isArray(given)) {
    throw argumentError("apply", "a JSON object", "options", given);
  }
  const options: Record<string, unknown> = {};
  for (const [name, value] of Object.entries(given)) {
    if (!knownNames(specs).includes(name)) {
      const known = knownNames(specs).join(", ") || "none";
      throw argumentError("apply", `an option of ${method} (${known})`, "options", name);
    }
    const spec = specs.find((candidate) => candidate.name === name);
    if (spec !== undefined) checkType(spec, value);
    options[name] = value;
  }
  return withPool(specs, options);
}

function checkType({ name, type }: OptionSpec, value: unknown): void {
  const param = `options.${name}`;
  if (type === "pool") {
    checkPool(param, value);
    return;
  }
  if (type === "layers") {
    checkLayers(param, value);
    return;
  }
  if (type === "schedule" || type === "object") {
    // What is in it is the method's to check.
    const isWord = type === "schedule" && typeof value === "string";
    const isObject = typeof value === "object" && value !== null && !Array.isArray(value);
    if (!isWord && !isObject) {
      const expected = type === "schedule" ? "a word or an object" : "an object";
      throw argumentError("apply", expected, param, value);
    }
    return;
  }
  if (type === "number" || type === "boolean") {
    if (typeof value !== type) throw argumentError("apply", `a ${type}`, param, value);
    return;
  }
  if (typeof value !== "string" || !type.includes(value)) {
    throw argumentError("apply", type.map(describeValue).join(" or "), param, value);
  }
}

function checkLayers(param: string, value: unknown): void {
  if (value === "sixteenth") return;
  if (Array.isArray(value) && value.every((layer) => typeof layer === "number")) return;
  throw argumentError("apply", 'a list of layers, or "sixteenth"', param, value);
}

const kPoolParts = ["kind", "kernel", "divisor"];
const kDivisors = ["kernel", "valid"];

function checkPool(param: string, value: unknown): void {
  if (value === null) return;
  if (typeof value !== "object" || Array.isArray(value)) {
    throw argumentError("apply", "null or an object of kind, kernel and divisor", param, value);
  }
  const unknown = Object.keys(value).find((name) => !kPoolParts.includes(name));
  if (unknown !== undefined) {
    throw argumentError("apply", "kind, kernel or divisor", param, unknown);
  }
  const { divisor, kind, kernel } = value as Record<string, unknown>;
  checkPooling(`${param}.kind`, kind, ["mean", "max"]);
  checkKernel(`${param}.kernel`, kernel);
  if (divisor !== undefined && !kDivisors.includes(divisor as string)) {
    throw argumentError("apply", '"kernel" or "valid"', `${param}.divisor`, divisor);
  }
}

function checkPooling(param: string, value: unknown, words: readonly string[]): void {
  if (typeof value === "string" && words.includes(value)) return;
  throw argumentError("apply", words.map(describeValue).join(" or "), param, value);
}

/** The range is the method's to check. */
function checkKernel(param: string, value: unknown): void {
  if (typeof value !== "number") throw argumentError("apply", "a number", param, value);
}

interface Pool {
  readonly kind: string;
  readonly kernel: number;
}

/** `pooling` and `kernel` become `pool`; what is left out of the two is the method's default. */
function withPool(
  specs: readonly OptionSpec[],
  options: Record<string, unknown>,
): Record<string, unknown> {
  const { pooling, kernel, ...rest } = options;
  if (pooling === undefined && kernel === undefined) return rest;
  if (rest.pool !== undefined) {
    throw argumentError("apply", "either pool, or pooling and kernel", "options", "both");
  }
  const spec = specs.find(({ name }) => name === "pool");
  const usual = (spec?.default ?? null) as Pool | null;
  if (pooling !== undefined) checkPooling("options.pooling", pooling, ["mean", "max", "none"]);
  if (kernel !== undefined) checkKernel("options.kernel", kernel);
  const kind = pooling ?? usual?.kind ?? "none";
  if (kind !== "none") return { ...rest, pool: { kind, kernel: kernel ?? usual?.kernel ?? 7 } };
  if (kernel === undefined) return { ...rest, pool: null };
  throw argumentError("apply", '"mean" or "max" beside a kernel', "options.pooling", pooling);
}
