/** The methods that the command knows, with their options and defaults. */
import type { Method } from "../cache/method.js";
import { argumentError } from "../errors.js";
import { full } from "../methods/full.js";
import { pyramidKV } from "../methods/pyramid-kv.js";
import { slidingWindow } from "../methods/sliding-window.js";
import { snapKV } from "../methods/snap-kv.js";
import { spindleKV } from "../methods/spindle-kv.js";
import { streamingLLM } from "../methods/streaming-llm.js";
import {
  codebookOptions,
  knownNames,
  type OptionSpec,
  readOptions,
  sinksOption,
  targetOptions,
  windowOptions,
} from "./method-options.js";

/** One method of the command. */
export interface MethodSpec {
  readonly name: string;
  /** The same in kebab case, accepted as well. */
  readonly kebab: string;
  /** One line. */
  readonly summary: string;
  readonly options: readonly OptionSpec[];
  /** The method of checked options. */
  readonly make: (options: Record<string, unknown>) => Method;
}

/** Defaults as the method itself has them, read from its parts so that none is written down twice. */
function defaultsOf({ score, budget, select, codec, positions }: Method): Record<string, unknown> {
  return {
    positions,
    ...score?.options,
    ...budget?.options,
    ...(codec.id === "codebook" ? codec : {}),
    sinks: select?.sinks,
    visibility: select?.visibility,
  };
}

/** Any target: the parts do not depend on it. */
const kSomeTarget = { keep: 0.5 };

function define(spec: MethodSpec): MethodSpec {
  const defaults = defaultsOf(spec.make(kSomeTarget));
  const options = spec.options.map((option) =>
    option.name in defaults ? { ...option, default: defaults[option.name] } : option,
  );
  return { ...spec, options };
}

const spindleOptions: readonly OptionSpec[] = [
  ...targetOptions,
  ...windowOptions,
  {
    name: "beta",
    type: "number",
    meaning: "fraction of the context that the last layer keeps at least",
  },
  ...codebookOptions,
];

// The options were checked by name and type, and the method checks their ranges: that is what each cast says.
export const methodSpecs: readonly MethodSpec[] = [
  define({
    name: "full",
    kebab: "full",
    summary: "everything stays",
    options: [],
    make: () => full(),
  }),
  define({
    name: "slidingwindow",
    kebab: "sliding-window",
    summary: "the last slots",
    options: targetOptions,
    make: (options) => slidingWindow(options as Parameters<typeof slidingWindow>[0]),
  }),
  define({
    name: "streamingllm",
    kebab: "streaming-llm",
    summary: "attention sinks and the last slots",
    options: [
      ...targetOptions,
      sinksOption,
      {
        name: "positions",
        type: ["original", "reindexed"],
        meaning: "RoPE by logical position, or by slot index in the cache",
      },
    ],
    make: (options) => streamingLLM(options as Parameters<typeof streamingLLM>[0]),
  }),
  define({
    name: "snapkv",
    kebab: "snap-kv",
    summary: "what the last queries attend to, equally many slots in every layer",
    options: [...targetOptions, ...windowOptions],
    make: (options) => snapKV(options as Parameters<typeof snapKV>[0]),
  }),
  define({
    name: "pyramidkv",
    kebab: "pyramid-kv",
    summary: "SnapKV's ranking with budgets that fall with depth",
    options: [
      ...targetOptions,
      ...windowOptions,
      {
        name: "beta",
        type: "number",
        meaning: "the last layer keeps a beta-th of the mean budget, > 1",
      },
    ],
    make: (options) => pyramidKV(options as Parameters<typeof pyramidKV>[0]),
  }),
  define({
    name: "spindlekv",
    kebab: "spindle-kv",
    summary: "eviction with falling budgets, then codebooks of keys and values",
    options: spindleOptions,
    make: (options) => spindleKV(options as Parameters<typeof spindleKV>[0]),
  }),
  define({
    name: "spindlekv-paper",
    kebab: "spindle-kv-paper",
    summary: "SpindleKV as its paper has it: no pooling, a ranking and a view per query head",
    options: spindleOptions,
    make: (options) => spindleKV.paper(options as Parameters<typeof spindleKV.paper>[0]),
  }),
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
  return `${blocks.join("\n\n")}\n\nIn brackets: the default. Exactly one of keep, bytes and tokens must be given.\n`;
}
