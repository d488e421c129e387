/** The command line of the benchmarks. */

export interface BenchOptions {
  readonly command: "first" | "ops" | "report";
  readonly quick: boolean;
  /** Jobs of the suite to run; all when empty. */
  readonly only: readonly string[];
}

const usage = "npm run bench -- first|ops|report [--quick] [--only <job>,...]";

/** @throws Error with the usage for anything else */
export function benchOptions(words: readonly string[]): BenchOptions {
  const [command, ...rest] = words;
  if (command !== "first" && command !== "ops" && command !== "report") {
    throw new Error(
      `expected first, ops or report for command, got ${command ?? "none"}\n${usage}`,
    );
  }
  let quick = false;
  let only: readonly string[] = [];
  for (let i = 0; i < rest.length; i++) {
    if (rest[i] === "--quick") quick = true;
    else if (rest[i] === "--only" && rest[i + 1] !== undefined) only = rest[++i].split(",");
    else throw new Error(`expected --quick or --only <job> for option, got ${rest[i]}\n${usage}`);
  }
  return { command, quick, only };
}
