// Running other programs and reporting, for every script here. Node built-ins only: these scripts
// run before anything is installed.
import { spawnSync } from "node:child_process";
import { dirname, join } from "node:path";
import { fileURLToPath } from "node:url";

/** The repository root, whatever directory a script was started from. */
export const root = dirname(dirname(dirname(fileURLToPath(import.meta.url))));

/** One line about what is going on, told apart from the output of the programs that are run. */
export function say(line) {
  console.log(`spindlekv: ${line}`);
}

/** Ends the process with a message that says what to do. */
export function fail(message) {
  console.error(`spindlekv: ${message}`);
  process.exit(1);
}

/**
 * Runs a program with its output passed through; ends this process with the same status when it
 * fails, unless `allowFailure`, where the status is returned.
 */
export function run(command, args, { env, cwd = root, allowFailure = false } = {}) {
  const result = spawnSync(command, args, {
    cwd,
    stdio: ["ignore", "inherit", "inherit"],
    env: { ...process.env, ...env },
  });
  if (result.error && !allowFailure)
    fail(`${command} could not be started: ${result.error.message}`);
  const status = result.status ?? 1;
  if (status !== 0 && !allowFailure) {
    const cause = result.signal ? `was ended by ${result.signal}` : `ended with status ${status}`;
    fail(`\`${[command, ...args].join(" ")}\` ${cause}`);
  }
  return status;
}

/** Runs a program quietly and returns its status and output. */
export function capture(command, args, { env, cwd = root } = {}) {
  const result = spawnSync(command, args, {
    cwd,
    encoding: "utf8",
    env: { ...process.env, ...env },
    maxBuffer: 1 << 28,
  });
  return {
    status: result.error ? 127 : (result.status ?? 1),
    stdout: result.stdout ?? "",
    stderr: result.stderr ?? "",
  };
}

/** Path of a program that npm installed. */
export function tool(name) {
  return join(root, "node_modules", ".bin", name);
}
