// npm run build: everything this machine can build. `--require-cuda` (npm run build:cuda) fails
// where the CUDA backend would be left out.
import { ensureInstalled } from "./support/install.mjs";
import { ensureNative } from "./support/native.mjs";
import { say } from "./support/run.mjs";
import { ensureDist } from "./support/typescript.mjs";

ensureInstalled();
ensureDist();
ensureNative({ requireCuda: process.argv.includes("--require-cuda") });
say("build/Release and dist are up to date");
