// Installing what the package manager brings, only when it is not there.
import { existsSync, readFileSync } from "node:fs";
import { join } from "node:path";
import { fail, root, run, say } from "./run.mjs";

/** True when every package of the lock file that this machine needs lies in node_modules. */
function isInstalled(folder) {
  const installedPath = join(folder, "node_modules", ".package-lock.json");
  if (!existsSync(installedPath)) return false;
  const wanted = JSON.parse(readFileSync(join(folder, "package-lock.json"), "utf8")).packages;
  const installed = JSON.parse(readFileSync(installedPath, "utf8")).packages;
  return Object.entries(wanted).every(
    ([path, entry]) =>
      path === "" ||
      // Optional packages are those of other platforms, or extras that may be left out.
      (entry.optional && !installed[path]) ||
      installed[path]?.version === entry.version,
  );
}

/** Installs the project's dependencies exactly as locked. */
export function ensureInstalled() {
  if (isInstalled(root)) return;
  say("installing dependencies (npm ci)");
  run("npm", ["ci", "--no-fund", "--no-audit"]);
}

const kCrossCheckFolder = join(root, "test", "cross-check");

/** Why the second implementation cannot be installed here, or undefined when it can. */
export function crossCheckObstacle() {
  if (process.platform !== "linux" || process.arch !== "x64") {
    return `node-llama-cpp's CPU package is pinned for linux-x64, this is ${process.platform}-${process.arch}`;
  }
  return undefined;
}

/**
 * Installs node-llama-cpp beside the cross-check tests: it is 85 MB, and only they need it, so it
 * is no dependency of the project.
 */
export function ensureCrossCheck() {
  if (crossCheckObstacle() || isInstalled(kCrossCheckFolder)) return;
  say("installing node-llama-cpp for the cross-check (in test/cross-check)");
  // Not `npm ci`: that wants every optional platform package in the lock file, even those that are
  // left out, and not every registry has them all.
  const status = run("npm", ["install", "--no-save"], {
    cwd: kCrossCheckFolder,
    allowFailure: true,
  });
  if (status === 0) return;
  // Without a network the rest can still be tested; a build machine has one, and must check it all.
  if (process.env.CI === "true") fail("node-llama-cpp could not be installed");
  say("node-llama-cpp could not be installed: the cross-check is skipped");
}
