// Where the second implementation lies. It is installed in this folder by `npm test` (see
// docs/decisions/0001-tooling.md), so a test elsewhere imports it by this URL.
import { existsSync } from "node:fs";

const entry = new URL("./node_modules/node-llama-cpp/dist/index.js", import.meta.url);

/** URL to `import()` node-llama-cpp from, or undefined when it is not installed (other platforms). */
export function llamaCppUrl(): string | undefined {
  return existsSync(entry) ? entry.href : undefined;
}
