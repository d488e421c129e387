// The native build: what there is to build on this machine, and building it when a source changed.
import { existsSync, readFileSync, rmSync } from "node:fs";
import { availableParallelism } from "node:os";
import { join } from "node:path";
import { hashOf } from "./files.mjs";
import { fail, root, run, say, tool } from "./run.mjs";
import { isFresh, markFresh } from "./stamp.mjs";
import { findToolkit, requireCompilers, which } from "./toolchain.mjs";

const kSharedSources = ["CMakeLists.txt", "CMakePresets.json", "cmake", "core", "package.json"];
const kOutput = "build/Release";
const jobs = String(availableParallelism());

/** Which backends this machine can build; the two CUDA ones with the reason when it cannot. */
export function planBackends() {
  // SPINDLEKV_CUDA=OFF leaves both out, for a quick build on a machine that has the toolkit.
  const isOff = /^(off|0|no|false)$/i.test(process.env.SPINDLEKV_CUDA ?? "");
  const toolkit = isOff
    ? { nvccReason: "SPINDLEKV_CUDA is off", includeReason: "SPINDLEKV_CUDA is off" }
    : findToolkit();
  return {
    cuda: Boolean(toolkit.nvcc),
    simt: Boolean(toolkit.include),
    toolkit,
  };
}

/** Says on one line what is left out, and why. */
export function sayLeftOut({ cuda, simt, toolkit }) {
  if (!cuda && !simt) say(`CUDA and SIMT are left out: ${toolkit.nvccReason}`);
  else if (!cuda) say(`CUDA is left out: ${toolkit.nvccReason}`);
}

const onOff = (value) => (value ? "ON" : "OFF");

/** A build folder configured with another generator or at another path cannot be used again. */
function forgetForeignCache(folder, generator) {
  const cache = join(root, folder, "CMakeCache.txt");
  if (!existsSync(cache)) return;
  const text = readFileSync(cache, "utf8");
  const isOurs =
    text.includes(`CMAKE_GENERATOR:INTERNAL=${generator}\n`) &&
    text.includes(`CMAKE_HOME_DIRECTORY:INTERNAL=${root}\n`);
  if (isOurs) return;
  rmSync(cache);
  rmSync(join(root, folder, "CMakeFiles"), { recursive: true, force: true });
}

/**
 * The addon and every backend this machine can build, in build/Release. `shippedOnly` asks for what
 * goes into the package: the SIMT backend is not built for it, but stays where a test run built it,
 * since dropping it from the configuration would have the next test run compile it again.
 */
export function ensureNative({ requireCuda = false, shippedOnly = false } = {}) {
  const plan = planBackends();
  if (shippedOnly && !existsSync(join(root, kOutput, "libspindlekv_simt.so"))) plan.simt = false;
  if (requireCuda && !plan.cuda)
    fail(`the CUDA backend cannot be built: ${plan.toolkit.nvccReason}`);
  if (!shippedOnly) sayLeftOut(plan);
  const architectures = process.env.SPINDLEKV_CUDA_ARCHITECTURES;
  const options = {
    SPINDLEKV_CUDA: onOff(plan.cuda),
    SPINDLEKV_SIMT: onOff(plan.simt),
    ...(plan.toolkit.nvcc && { CMAKE_CUDA_COMPILER: plan.toolkit.nvcc }),
    ...(plan.toolkit.include && { SPINDLEKV_CUDA_INCLUDE: plan.toolkit.include }),
    ...(architectures && { SPINDLEKV_CUDA_ARCHITECTURES: architectures }),
  };
  const sources = [...kSharedSources, "cpu", "binding"];
  if (plan.cuda || plan.simt) sources.push("cuda", "test/simt");
  const hash = hashOf(sources, { options, arch: process.arch });
  const wanted = ["cpu", plan.cuda && "cuda", plan.simt && "simt"].filter(Boolean);
  // A backend that is left out now must not stay behind from an earlier build.
  for (const name of ["cuda", "simt"].filter((backend) => !wanted.includes(backend))) {
    rmSync(join(root, kOutput, `libspindlekv_${name}.so`), { force: true });
  }
  const outputs = ["spindlekv.node", ...wanted.map((name) => `libspindlekv_${name}.so`)];
  if (
    isFresh(
      "native",
      hash,
      outputs.map((name) => `${kOutput}/${name}`),
    )
  )
    return plan;

  requireCompilers();
  say(`building the addon and its backends (${wanted.join(", ")})`);
  forgetForeignCache("build", which("ninja") ? "Ninja" : "Unix Makefiles");
  const cmakeJs = (command, ...more) =>
    run(tool("cmake-js"), [
      command,
      "--log-level=warn",
      "--config=Release",
      `--parallel=${jobs}`,
      ...Object.entries(options).map(([key, value]) => `--CD${key}=${value}`),
      ...more,
    ]);
  cmakeJs("configure");
  cmakeJs("build");
  markFresh("native", hash);
  return plan;
}

/** The backends under AddressSanitizer and UBSan, in build/simt-asan; false without a toolkit. */
export function ensureSanitized() {
  const plan = planBackends();
  if (!plan.simt) return plan;
  const hash = hashOf([...kSharedSources, "cpu", "cuda", "test/simt"], { arch: process.arch });
  const outputs = ["build/simt-asan/libspindlekv_cpu.so", "build/simt-asan/libspindlekv_simt.so"];
  if (isFresh("simt-asan", hash, outputs)) return plan;
  requireCompilers();
  say("building the cpu and simt backends with AddressSanitizer and UBSan");
  const folder = "build/cmake/simt-asan";
  const generator = which("ninja") ? "Ninja" : "Unix Makefiles";
  forgetForeignCache(folder, generator);
  const include = `-DSPINDLEKV_CUDA_INCLUDE=${plan.toolkit.include}`;
  run("cmake", ["--preset", "simt-asan", "-G", generator, "--log-level=WARNING", include]);
  run("cmake", ["--build", folder, "--parallel", jobs]);
  markFresh("simt-asan", hash);
  return plan;
}

/** What builds and runs the NEON path where the processor has none. */
export const neonTools = { compiler: "aarch64-linux-gnu-g++", emulator: "qemu-aarch64" };

/** Why the NEON path cannot be tried beside this machine's own; undefined if it can. */
export function missingForNeon() {
  if (process.arch === "arm64") return "NEON is the path of this machine";
  const missing = Object.values(neonTools).filter((name) => !which(name));
  return missing.length > 0 ? `there is no ${missing.join(" and no ")}` : undefined;
}

/** The addon and the CPU backend for AArch64, in build/neon/build/Release. */
export function ensureNeon() {
  const hash = hashOf([...kSharedSources, "cpu", "binding"], { arch: "arm64" });
  const outputs = ["spindlekv.node", "libspindlekv_cpu.so"];
  if (
    isFresh(
      "neon",
      hash,
      outputs.map((name) => `build/neon/build/Release/${name}`),
    )
  )
    return;
  say("building the addon and the CPU backend for AArch64");
  const folder = "build/cmake/neon";
  const generator = which("ninja") ? "Ninja" : "Unix Makefiles";
  forgetForeignCache(folder, generator);
  run("cmake", ["--preset", "neon", "-G", generator, "--log-level=WARNING"]);
  run("cmake", ["--build", folder, "--parallel", jobs]);
  markFresh("neon", hash);
}
