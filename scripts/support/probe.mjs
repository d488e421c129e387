// The program that says what a machine's memory and arithmetic can do, compiled for this very processor.
import { mkdirSync } from "node:fs";
import { join } from "node:path";
import { hashOf } from "./files.mjs";
import { root, run, say } from "./run.mjs";
import { isFresh, markFresh } from "./stamp.mjs";
import { which } from "./toolchain.mjs";

const kSource = "bench/harness/machine-probe.cc";
const kOutput = "build/bench/machine-probe";

/** Full path of the probe; undefined, and said, where there is no compiler for it. */
export function ensureProbe() {
  const compiler = ["g++", "c++", "clang++"].map(which).find(Boolean);
  if (!compiler) {
    say("no C++ compiler: the machine's bandwidth is measured by WebAssembly");
    return undefined;
  }
  const options = ["-std=c++20", "-O3", "-march=native", "-pthread"];
  const hash = hashOf([kSource], { options, compiler, arch: process.arch });
  if (!isFresh("machine-probe", hash, [kOutput])) {
    mkdirSync(join(root, "build", "bench"), { recursive: true });
    run(compiler, [...options, join(root, kSource), "-o", join(root, kOutput)]);
    markFresh("machine-probe", hash);
  }
  return join(root, kOutput);
}
