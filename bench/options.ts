/** The command line of the benchmarks. */
import type { DeviceName } from "spindlekv";

const kCommands = ["first", "ops", "cpu", "report"] as const;

export interface BenchOptions {
  /** A suite, or "report": only the page is written anew. */
  readonly command: (typeof kCommands)[number];
  readonly quick: boolean;
  /** Jobs of the suite to run; all when empty. */
  readonly only: readonly string[];
  /** Where the ops run; suites other than `ops` are about the CPU. */
  readonly device: DeviceName;
}

const usage =
  "npm run bench -- [--suite] cpu|first|ops|report [--quick] [--only <job>,...] [--device cpu|cuda|cuda:<n>]";

/** @throws Error with the usage for anything else */
export function benchOptions(words: readonly string[]): BenchOptions {
  const fail = (expected: string, got: string | undefined): never => {
    throw new Error(`expected ${expected}, got ${got ?? "none"}\n${usage}`);
  };
  let command: string | undefined;
  let quick = false;
  let only: readonly string[] = [];
  let device: DeviceName = "cpu";
  for (let i = 0; i < words.length; i++) {
    const value = words[i + 1];
    if (words[i] === "--quick") quick = true;
    else if (words[i] === "--only" && value !== undefined) only = words[++i].split(",");
    else if (words[i] === "--device" && /^(cpu|cuda(:\d{1,4})?)$/.test(value ?? "")) {
      device = words[++i] as DeviceName;
    } else if (words[i] === "--device") fail("cpu, cuda or cuda:<n> for --device", value);
    else if (words[i] === "--suite" && command === undefined) command = words[++i];
    else if (!words[i].startsWith("-") && command === undefined) command = words[i];
    else fail("--suite, --quick, --only <job> or --device <name> for option", words[i]);
  }
  const known = kCommands.find((name) => name === command);
  if (known === undefined) return fail(`${kCommands.join(", ")} for suite`, command);
  if (device !== "cpu" && known !== "ops") fail(`cpu for --device with suite ${known}`, device);
  return { command: known, quick, only, device };
}
