#!/usr/bin/env node
// prebuildify calls node-gyp as `rebuild --target=V --devdir=D --arch=A --release` and takes what
// then lies in build/Release. This answers the call with the CMake build of what ships: the addon,
// the CPU backend and, where nvcc is there, the CUDA backend.
import { ensureNative } from "./support/native.mjs";
import { fail } from "./support/run.mjs";

const option = (name) =>
  process.argv.find((argument) => argument.startsWith(`--${name}=`))?.slice(name.length + 3);

const arch = option("arch") ?? process.arch;
if (arch !== process.arch) {
  fail(`expected --arch=${process.arch}, got ${arch}: build each architecture on its own machine`);
}
// Node-API makes the target version irrelevant: one binary serves every Node from 20.17 on.
ensureNative({ shippedOnly: true });
