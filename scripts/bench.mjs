// npm run bench -- <suite>: builds what is missing, then runs bench/main.ts with the arguments.
import { ensureInstalled } from "./support/install.mjs";
import { ensureNative } from "./support/native.mjs";
import { ensureProbe } from "./support/probe.mjs";
import { run } from "./support/run.mjs";
import { bundleProgram } from "./support/typescript.mjs";

ensureInstalled();
ensureNative();
const probe = ensureProbe();
const program = await bundleProgram("bench/main.ts");
process.exit(
  run(process.execPath, [program, ...process.argv.slice(2)], {
    allowFailure: true,
    env: probe ? { SPINDLEKV_BENCH_PROBE: probe } : {},
  }),
);
