/** The demo's command line. Each mistake ends with a message and exit status 2, before any work. */
import { parseArgs } from "node:util";
import type { TrialMethod } from "spindlekv/eval";

/** What can be tried; those without a target size run once per protocol. */
const methods: readonly TrialMethod[] = [
  { name: "full", hasTarget: false },
  { name: "codebooks", hasTarget: false },
  { name: "sliding-window", hasTarget: true },
  { name: "streaming-llm", hasTarget: true },
  { name: "snap-kv", hasTarget: true },
  { name: "pyramid-kv", hasTarget: true },
  { name: "spindle-kv-paper", hasTarget: true },
  { name: "spindle-kv", hasTarget: true },
];

const devices = ["auto", "cpu", "cuda"] as const;
export type DemoDevice = (typeof devices)[number];

export interface DemoOptions {
  readonly device: DemoDevice;
  readonly model: string;
  readonly out: string;
  readonly prompts: number;
  /** Sentences of the haystack: 118 make about 1,800 tokens, 60 about 940. */
  readonly sentences: number;
  readonly keeps: readonly number[];
  readonly methods: readonly TrialMethod[];
}

/** Reads the arguments; exits on a mistake. */
export function demoOptions(argv: readonly string[]): DemoOptions {
  try {
    return parseDemoOptions(argv);
  } catch (error) {
    console.error(`demo: ${(error as Error).message}`);
    process.exit(2);
  }
}

/** @throws Error naming the option that does not fit */
export function parseDemoOptions(argv: readonly string[]): DemoOptions {
  const { values } = parseArgs({
    args: [...argv],
    options: {
      device: { type: "string", default: "auto" },
      model: { type: "string", default: "test/model/recall.gguf" },
      out: { type: "string", default: "." },
      prompts: { type: "string" },
      keep: { type: "string" },
      methods: { type: "string" },
      quick: { type: "boolean", default: false },
    },
  });
  const { model, out, quick } = values;
  const device = devices.find((name) => name === values.device);
  if (device === undefined) {
    throw new Error(`expected ${devices.join(", ")} for --device, got "${values.device}"`);
  }
  const prompts = Number(values.prompts ?? (quick ? 4 : 24));
  if (!Number.isInteger(prompts) || prompts < 1) {
    throw new Error(`expected a whole number above 0 for --prompts, got "${values.prompts}"`);
  }
  const keeps = (values.keep ?? (quick ? "0.15,0.06" : "0.3,0.15,0.1,0.06")).split(",").map(Number);
  if (!keeps.every((keep) => keep > 0 && keep <= 1)) {
    throw new Error(`expected fractions above 0 and up to 1 for --keep, got "${values.keep}"`);
  }
  const names = values.methods?.split(",") ?? methods.map(({ name }) => name);
  const chosen = names.map((name) => {
    const method = methods.find((candidate) => candidate.name === name);
    if (method === undefined) {
      const known = methods.map((candidate) => candidate.name).join(", ");
      throw new Error(`expected some of ${known} for --methods, got "${name}"`);
    }
    return method;
  });
  return { device, model, out, prompts, sentences: quick ? 60 : 118, keeps, methods: chosen };
}
