/** The flags of `spindlekv eval`, checked before any work. */
import { parseArgs } from "node:util";
import type { DeviceName } from "../device.js";
import { argumentError, spindleError } from "../errors.js";
import { type Protocol, protocols } from "../eval/index.js";
import { type EvalMethod, parseMethods } from "./eval-methods.js";

/** What the command line asks for. */
export interface EvalRequest {
  readonly model: string;
  readonly methods: readonly EvalMethod[];
  readonly keeps: readonly number[];
  /** Needle prompts per length, depth and seed. */
  readonly prompts: number;
  readonly seeds: readonly number[];
  /** Tokens of context; undefined: those of kLengths that the model was trained on. */
  readonly lengths: readonly number[] | undefined;
  readonly depths: readonly number[];
  readonly protocols: readonly Protocol[];
  /** Held-out texts. */
  readonly texts: number;
  /** File with the user's text; undefined: the generator's. */
  readonly textFile: string | undefined;
  readonly experiments: readonly Experiment[];
  /** Methods to compare with all others at equal bytes, by label. */
  readonly subjects: readonly string[];
  readonly device: DeviceName | undefined;
  readonly output: string;
  readonly isResumed: boolean;
}

/** The parts of an evaluation that do not depend on methods and keep values. */
export const experiments = ["long-text", "long-decode"] as const;
export type Experiment = (typeof experiments)[number];

const kSubject = "spindlekv";

/** Defaults that `--help` and docs/cli.md state. */
export const evalDefaults = {
  methods: "all",
  keep: "0.5,0.3,0.2,0.1",
  prompts: "1",
  seeds: "1,2",
  lengths: "512,1024,1792",
  depths: "0.1,0.3,0.5,0.7,0.9",
  protocols: protocols.join(","),
  texts: "6",
  experiments: experiments.join(","),
  device: "auto",
  output: "eval",
} as const;

/** Reads the arguments behind `eval`. @throws {SpindleKVError} ERR_SPINDLEKV_ARGUMENT naming the flag */
export function evalRequest(argv: readonly string[]): EvalRequest {
  const flags = parse(argv);
  if (!flags.model) throw argumentError("eval", "a GGUF file after --model", "model", flags.model);
  const methods = parseMethods(flags.methods);
  const labels = methods.map(({ label }) => label);
  const subjects =
    flags.subject?.split(",") ?? (labels.includes(kSubject) ? [kSubject] : labels.slice(0, 1));
  const stranger = subjects.find((label) => !labels.includes(label));
  if (stranger !== undefined) {
    throw argumentError("eval", `some of ${labels.join(", ")}`, "subject", stranger);
  }
  const isDevice = /^(auto|cpu|cuda(:\d{1,4})?)$/.test(flags.device);
  if (!isDevice) throw argumentError("eval", "auto, cpu, cuda or cuda:<n>", "device", flags.device);
  const isKeep = (value: number) => value > 0 && value <= 1;
  const isDepth = (value: number) => value >= 0 && value <= 1;
  const isCount = (value: number) => Number.isInteger(value) && value > 0;
  const isSeed = (value: number) => Number.isInteger(value) && value >= 0 && value < 2 ** 31;
  return {
    model: flags.model,
    methods,
    keeps: numbers("keep", flags.keep, "fractions above 0 and up to 1", isKeep).sort(descending),
    prompts: numbers("prompts", flags.prompts, "one whole number above 0", isCount, 1)[0],
    seeds: numbers("seeds", flags.seeds, "whole numbers from 0 to 2^31 - 1", isSeed),
    lengths:
      flags.lengths === undefined
        ? undefined
        : numbers("lengths", flags.lengths, "whole numbers above 0", isCount),
    depths: numbers("depths", flags.depths, "numbers from 0 to 1", isDepth),
    protocols: words("protocols", flags.protocols, protocols),
    texts: numbers("texts", flags.texts, "one whole number above 0", isCount, 1)[0],
    textFile: flags.text,
    experiments:
      flags.experiments === "none" ? [] : words("experiments", flags.experiments, experiments),
    subjects,
    device: flags.device === "auto" ? undefined : (flags.device as DeviceName),
    output: flags.output,
    isResumed: flags.resume,
  };
}

const descending = (a: number, b: number) => b - a;

function parse(argv: readonly string[]) {
  const { lengths: _ofTheModel, ...defaults } = evalDefaults;
  const withDefaults = Object.entries(defaults).map(([name, value]) => [
    name,
    { type: "string" as const, default: value },
  ]);
  try {
    const { values } = parseArgs({
      args: [...argv],
      options: {
        ...(Object.fromEntries(withDefaults) as Record<
          keyof typeof defaults,
          { type: "string"; default: string }
        >),
        model: { type: "string" },
        lengths: { type: "string" },
        text: { type: "string" },
        subject: { type: "string" },
        resume: { type: "boolean", default: false },
      },
    });
    return values;
  } catch (error) {
    throw spindleError(
      "ERR_SPINDLEKV_ARGUMENT",
      "eval",
      `eval: ${(error as Error).message}`,
      error,
    );
  }
}

/** Different numbers, separated by commas. */
export function numbers(
  name: string,
  text: string,
  what: string,
  isRight: (value: number) => boolean,
  most = Number.POSITIVE_INFINITY,
): number[] {
  const list = text.split(",").map((part) => (part.trim() === "" ? Number.NaN : Number(part)));
  if (!list.every(isRight) || new Set(list).size < list.length || list.length > most) {
    throw argumentError("eval", what, name, text);
  }
  return list;
}

function words<Word extends string>(name: string, text: string, known: readonly Word[]): Word[] {
  const list = text.split(",");
  const chosen = known.filter((word) => list.includes(word));
  if (chosen.length < new Set(list).size) {
    throw argumentError("eval", `some of ${known.join(", ")}`, name, text);
  }
  return chosen;
}
