// Bundles lib/ into dist/: ESM and CommonJS side by side, each with its own declarations, so that
// both `import` and `require` get types of their own kind. The command line is ESM alone.
import { existsSync } from "node:fs";
import { defineConfig } from "tsdown";

const libraryEntries: Record<string, string> = {
  index: "lib/index.ts",
  "eval/index": "lib/eval/index.ts",
  "runtimes/gguf-llama/index": "lib/runtimes/gguf-llama/index.ts",
};

const shared = {
  outDir: "dist",
  platform: "node",
  target: "node20.17",
  tsconfig: "tsconfig.build.json",
  clean: false, // scripts/build.mjs empties dist once, before both passes
  sourcemap: false,
  hash: true,
  outExtensions: ({ format }: { format: string }) =>
    format === "cjs" ? { js: ".cjs", dts: ".d.cts" } : { js: ".mjs", dts: ".d.mts" },
} as const;

for (const source of Object.values(libraryEntries)) {
  if (!existsSync(source)) throw new Error(`tsdown: entry point ${source} is missing`);
}

export default defineConfig([
  { ...shared, entry: libraryEntries, format: ["esm", "cjs"], dts: true },
  { ...shared, entry: { "cli/main": "lib/cli/main.ts" }, format: ["esm"], dts: false },
]);
