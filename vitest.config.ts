// The main test run: every *.test.ts under test/ except the folders that have a tier of their own.
import { fileURLToPath } from "node:url";
import { defineConfig } from "vitest/config";

const fromRoot = (path: string) => fileURLToPath(new URL(path, import.meta.url));

// Test files run in child processes (the default pool): a crash in native code then fails one file
// and names it, instead of ending the run.
export default defineConfig({
  resolve: {
    alias: [
      { find: /^spindlekv$/, replacement: fromRoot("lib/index.ts") },
      { find: /^spindlekv\/eval$/, replacement: fromRoot("lib/eval/index.ts") },
      {
        find: /^spindlekv\/runtimes\/gguf-llama$/,
        replacement: fromRoot("lib/runtimes/gguf-llama/index.ts"),
      },
    ],
  },
  test: {
    include: ["test/**/*.test.ts"],
    exclude: ["**/node_modules/**", "test/stress/**", "test/gpu/**"],
    reporters: ["default", fromRoot("scripts/vitest-summary-reporter.mjs")],
    pool: "forks",
    // Most files keep one core busy; by default one worker less than cores would run, which is one of two.
    maxWorkers: 2,
    testTimeout: 60_000,
    hookTimeout: 60_000,
    execArgv: ["--expose-gc"],
  },
});
