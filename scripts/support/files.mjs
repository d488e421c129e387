// Listing and hashing source files.
import { createHash } from "node:crypto";
import { existsSync, readdirSync, readFileSync, statSync } from "node:fs";
import { join } from "node:path";
import { root } from "./run.mjs";

const kSkippedFolders = new Set(["node_modules", "build", "dist", "prebuilds", ".git", ".cache"]);

/** Files under `folder` (from the root, forward slashes), sorted; a missing folder has none. */
export function filesUnder(folder, accept = () => true) {
  const found = [];
  const visit = (path) => {
    for (const entry of readdirSync(join(root, path), { withFileTypes: true })) {
      const child = path === "." ? entry.name : `${path}/${entry.name}`;
      if (entry.isDirectory()) {
        if (!kSkippedFolders.has(entry.name)) visit(child);
      } else if (accept(child)) {
        found.push(child);
      }
    }
  };
  if (existsSync(join(root, folder))) visit(folder);
  return found.sort();
}

/** Text of a file of the repository, or undefined when there is none. */
export function readText(path) {
  const absolute = join(root, path);
  return existsSync(absolute) ? readFileSync(absolute, "utf8") : undefined;
}

/** SHA-256 over names and contents of files and folders; `extra` is hashed as JSON. */
export function hashOf(paths, extra = {}) {
  const hash = createHash("sha256").update(JSON.stringify(extra));
  for (const path of paths) {
    const absolute = join(root, path);
    if (!existsSync(absolute)) continue;
    const files = statSync(absolute).isDirectory() ? filesUnder(path) : [path];
    for (const file of files) {
      hash.update(`\0${file}\0`).update(readFileSync(join(root, file)));
    }
  }
  return hash.digest("hex");
}
