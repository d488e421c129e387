// `npm run test:stress`: long seeded runs, one file at a time so that timings and memory are its own.
import { defineConfig, mergeConfig } from "vitest/config";
import base from "./vitest.config.ts";

export default mergeConfig(
  { ...base, test: { ...base.test, include: [], exclude: ["**/node_modules/**"] } },
  defineConfig({
    test: { include: ["test/stress/**/*.test.ts"], fileParallelism: false, testTimeout: 600_000 },
  }),
);
