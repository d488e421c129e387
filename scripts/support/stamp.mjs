// Remembering what a build was made from, so that nothing is built twice.
import { existsSync, mkdirSync, readFileSync, writeFileSync } from "node:fs";
import { dirname, join } from "node:path";
import { root } from "./run.mjs";

const stampPath = (name) => join(root, "build", "stamps", name);

/** True when the build `name` was last made from `hash` and all its `outputs` are still there. */
export function isFresh(name, hash, outputs) {
  const path = stampPath(name);
  return (
    existsSync(path) &&
    readFileSync(path, "utf8") === hash &&
    outputs.every((output) => existsSync(join(root, output)))
  );
}

/** Records that the build `name` is made from `hash`. */
export function markFresh(name, hash) {
  const path = stampPath(name);
  mkdirSync(dirname(path), { recursive: true });
  writeFileSync(path, hash);
}
