// npm run demo: installs and builds what is missing, then runs examples/demo.ts. Options after `--`
// go to the demo.
import { ensureInstalled } from "./support/install.mjs";
import { ensureNative } from "./support/native.mjs";
import { run } from "./support/run.mjs";
import { bundleProgram } from "./support/typescript.mjs";

ensureInstalled();
ensureNative();
const program = await bundleProgram("examples/demo.ts");
process.exit(run(process.execPath, [program, ...process.argv.slice(2)], { allowFailure: true }));
