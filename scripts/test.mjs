// npm test: installs and builds what is missing, then runs vitest. Other tiers by a first option:
//
//   --gpu        needs nvcc and a GPU; fails when no test ran on the cuda backend
//   --sanitize   the op tests on backends built with AddressSanitizer and UBSan
//   --stress     the long runs of test/stress
//
// Everything else (file filters, -t <name>, ...) goes to vitest.
import { existsSync } from "node:fs";
import { join } from "node:path";
import { crossCheckObstacle, ensureCrossCheck, ensureInstalled } from "./support/install.mjs";
import { ensureNative, ensureSanitized } from "./support/native.mjs";
import { capture, fail, root, run, say, tool } from "./support/run.mjs";
import { ensureDist } from "./support/typescript.mjs";

const kTiers = ["--gpu", "--sanitize", "--stress"];
const tier = kTiers.find((name) => process.argv.includes(name));
const filters = process.argv.slice(2).filter((argument) => argument !== tier);

/** Environment under which the sanitized backends can be opened by a node that is not sanitized. */
function sanitizerEnvironment() {
  const compiler = process.env.CXX ?? "g++";
  const library = (name) => {
    const path = capture(compiler, [`-print-file-name=${name}`]).stdout.trim();
    if (!path.startsWith("/")) fail(`${compiler} has no ${name}; install the sanitizer runtime`);
    return path;
  };
  return {
    SPINDLEKV_BACKEND_DIR: join(root, "build/simt-asan"),
    SPINDLEKV_REQUIRED_BACKENDS: "simt",
    // The runtime has to come before everything else; libstdc++ so that it can hook throwing.
    LD_PRELOAD: `${library("libasan.so")} ${library("libstdc++.so.6")}`,
    // Leaks are not looked for: the engine frees little at exit, and the pool has tests of its own.
    ASAN_OPTIONS: "detect_leaks=0:detect_stack_use_after_return=0:abort_on_error=1",
    UBSAN_OPTIONS: "print_stacktrace=1:halt_on_error=1",
  };
}

ensureInstalled();
ensureDist();
const plan = ensureNative({ requireCuda: tier === "--gpu" });
// What was built has to run: a SIMT backend that does not load is a failure then, not a skip.
if (plan.simt) process.env.SPINDLEKV_REQUIRE_SIMT = "1";

if (tier === "--sanitize") {
  if (!ensureSanitized().simt)
    fail(`the sanitized run needs the toolkit: ${plan.toolkit.includeReason}`);
  const paths = filters.length > 0 ? filters : ["test/ops", "test/simt"];
  const env = sanitizerEnvironment();
  // Slower code and bigger stacks: fewer at a time, longer limits.
  const args = ["run", "--testTimeout=300000", "--hookTimeout=300000", ...paths];
  process.exit(run(tool("vitest"), args, { env, allowFailure: true }));
}
if (tier === "--gpu") {
  const env = { SPINDLEKV_REQUIRED_BACKENDS: "cuda" };
  process.exit(run(tool("vitest"), ["run", ...filters], { env, allowFailure: true }));
}
if (tier === "--stress") {
  if (!existsSync(join(root, "test/stress"))) fail("test/stress has no tests");
  const args = ["run", "--config", "vitest.stress.config.ts", ...filters];
  process.exit(run(tool("vitest"), args, { allowFailure: true }));
}

const obstacle = crossCheckObstacle();
if (obstacle) say(`the cross-check is left out: ${obstacle}`);
else ensureCrossCheck();
process.exit(run(tool("vitest"), ["run", ...filters], { allowFailure: true }));
