// Programs that run in a process of their own, against the bundled package: what happens at exit can be seen only
// from outside.
import { spawn } from "node:child_process";
import { existsSync } from "node:fs";
import { dirname, join } from "node:path";
import { fileURLToPath, pathToFileURL } from "node:url";

/** The repository, which is the package. */
export const packageFolder = dirname(dirname(dirname(fileURLToPath(import.meta.url))));

const bundle = join(packageFolder, "dist/index.mjs");
const longestMs = 30_000;

export interface ChildResult {
  readonly status: number | null;
  readonly signal: string | null;
  readonly stdout: string;
  readonly stderr: string;
  readonly durationMs: number;
}

export interface ChildOptions {
  readonly nodeOptions?: readonly string[];
  readonly env?: Readonly<Record<string, string>>;
}

/** `program` as an ES module with everything of the package in scope as `spindlekv`. */
export function runChild(program: string, options: ChildOptions = {}): Promise<ChildResult> {
  if (!existsSync(bundle)) throw new Error(`${bundle} is missing: run \`npm run build\``);
  const source = `import * as spindlekv from ${JSON.stringify(pathToFileURL(bundle).href)};\n${program}`;
  const started = performance.now();
  return new Promise((resolve, reject) => {
    const child = spawn(
      process.execPath,
      [...(options.nodeOptions ?? []), "--input-type=module", "--eval", source],
      {
        cwd: packageFolder,
        env: { ...process.env, ...options.env },
        stdio: ["ignore", "pipe", "pipe"],
        timeout: longestMs,
      },
    );
    let stdout = "";
    let stderr = "";
    child.stdout.on("data", (text) => {
      stdout += text;
    });
    child.stderr.on("data", (text) => {
      stderr += text;
    });
    child.on("error", reject);
    child.on("close", (status, signal) =>
      resolve({ status, signal, stdout, stderr, durationMs: performance.now() - started }),
    );
  });
}

/** What a program that went well looks like from outside. */
export const success = { status: 0, signal: null, stderr: "" };
