// A command line of `apply` that works, ways to break it, and what every failure has in common.
import { mkdirSync, readdirSync, writeFileSync } from "node:fs";
import { join } from "node:path";
import { beforeEach, expect } from "vitest";
import { bytesOf, randomDump, runCommand, scratchFolder, writeDump } from "./support.ts";

export const folder = scratchFolder();
export const input = join(folder, "dump.safetensors");
export const output = join(folder, "out", "out.safetensors");
mkdirSync(join(folder, "out"));

export const shape = { layers: 2, queryHeads: 4, kvHeads: 2, tokens: 24, headDim: 16 };
export const dump = randomDump({ seed: 31, shape });
export const kOptions = '{"tokens":16,"window":8}';

/** An apply command line that works, with some of its parts replaced; undefined leaves a flag out. */
export function applyLine(replaced: Record<string, string | undefined> = {}): string[] {
  const flags: Record<string, string | undefined> = {
    method: "snapkv",
    options: kOptions,
    input,
    output,
    device: "cpu",
    ...replaced,
  };
  const given = Object.entries(flags).filter((flag) => flag[1] !== undefined);
  return ["apply", ...given.flatMap(([name, value]) => [`--${name}`, value as string])];
}

export const kOldOutput = "what was there before";

beforeEach(async () => {
  await writeDump(input, dump);
  writeFileSync(output, kOldOutput);
});

/** The command fails so, says so on one line of stderr, and leaves the output and its folder alone. */
export async function expectFailure(
  argv: readonly string[],
  status: number,
  code: string,
  message: RegExp,
): Promise<void> {
  const result = await runCommand(...argv);
  expect(result.stderr).toMatch(message);
  expect(result).toMatchObject({ status, stdout: "" });
  expect(result.stderr.startsWith(`spindlekv: ${code}: `), result.stderr).toBe(true);
  expect(result.stderr.endsWith("\n")).toBe(true);
  expect(bytesOf(output)?.toString()).toBe(kOldOutput);
  expect(readdirSync(join(folder, "out"))).toEqual(["out.safetensors"]);
}

export const usage = "ERR_SPINDLEKV_ARGUMENT";
export const badFile = "ERR_SPINDLEKV_FILE";
export const missingInput = "ERR_SPINDLEKV_MISSING_INPUT";
