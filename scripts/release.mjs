// npm run release: prebuilt binaries of this machine's platform and a tarball in build/package/.
// The CUDA backend has to be in them; `--cpu-only` says that it is left out on purpose.
import { join } from "node:path";
import { ensureInstalled } from "./support/install.mjs";
import { planBackends } from "./support/native.mjs";
import { makePrebuilds, pack } from "./support/prebuild.mjs";
import { fail, root, say } from "./support/run.mjs";
import { ensureDist } from "./support/typescript.mjs";

ensureInstalled();
const plan = planBackends();
if (!plan.cuda && !process.argv.includes("--cpu-only")) {
  fail(`a release carries the CUDA backend: ${plan.toolkit.nvccReason} (--cpu-only leaves it out)`);
}
ensureDist();
say(`prebuilds: ${makePrebuilds().join(", ")}`);
say(`packed ${pack(join(root, "build", "package"))}`);
