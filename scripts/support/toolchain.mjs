// What is installed on this machine for the native build, and what to say when it is not.
import { existsSync, readFileSync, realpathSync } from "node:fs";
import { delimiter, dirname, join } from "node:path";
import { capture, fail, run, say } from "./run.mjs";

/** CUDART_VERSION from which sm_100 and sm_120 exist: toolkit 12.8. */
const kOldestToolkit = 12080;

/** Full path of a program on PATH, or undefined. */
export function which(name) {
  return (process.env.PATH ?? "")
    .split(delimiter)
    .map((folder) => join(folder, name))
    .find((path) => existsSync(path));
}

/** What the native build needs: any of `programs`, which comes in `debianPackage`. */
const requirements = [
  { programs: ["cmake"], debianPackage: "cmake" },
  { programs: ["g++", "c++", "clang++"], debianPackage: "g++" },
  { programs: ["ninja", "make"], debianPackage: "ninja-build" },
];

/**
 * Makes sure that CMake, a C++ compiler and a build program are there. A build machine (CI=true)
 * with root rights installs what is missing; anywhere else the user is told which packages to get.
 */
export function requireCompilers() {
  const missing = requirements.filter(({ programs }) => !programs.some(which));
  if (missing.length === 0) return;
  const packages = missing.map(({ debianPackage }) => debianPackage);
  const mayInstall = process.env.CI === "true" && process.getuid?.() === 0 && which("apt-get");
  if (!mayInstall) {
    fail(
      `the native build needs ${missing.map(({ programs }) => programs[0]).join(", ")}; ` +
        `on Debian or Ubuntu: sudo apt-get install ${packages.join(" ")}`,
    );
  }
  say(`installing ${packages.join(" ")}`);
  const env = { DEBIAN_FRONTEND: "noninteractive" };
  run("apt-get", ["update", "-qq"], { env });
  run("apt-get", ["install", "-y", "-qq", "--no-install-recommends", ...packages], { env });
}

/** CUDART_VERSION of the toolkit whose headers lie in `include`, or undefined. */
function toolkitVersion(include) {
  const header = join(include, "cuda_runtime_api.h");
  if (!existsSync(header) || !existsSync(join(include, "cuda_fp16.h"))) return undefined;
  const match = /#define CUDART_VERSION\s+(\d+)/.exec(readFileSync(header, "utf8"));
  return match ? Number(match[1]) : undefined;
}

const versionText = (version) => `${Math.floor(version / 1000)}.${(version % 1000) / 10}`;

/**
 * The CUDA toolkit: `nvcc` builds the CUDA backend, `include` is enough for the SIMT backend.
 * Where one is missing, `nvccReason` or `includeReason` says why.
 */
export function findToolkit() {
  const homes = [process.env.CUDA_HOME, process.env.CUDA_PATH, "/usr/local/cuda", "/opt/cuda"];
  const roots = homes.filter(Boolean);
  const nvcc =
    which("nvcc") ??
    roots.map((path) => join(path, "bin", "nvcc")).find((path) => existsSync(path));
  if (nvcc) roots.push(dirname(dirname(realpathSync(nvcc))));
  const folders = [
    ...roots.flatMap((path) => [
      join(path, "include"),
      join(path, "targets", "x86_64-linux", "include"),
      join(path, "targets", "sbsa-linux", "include"),
    ]),
    "/usr/include",
  ];
  const candidates = folders
    .map((include) => ({ include, version: toolkitVersion(include) }))
    .filter(({ version }) => version !== undefined);
  const chosen = candidates.find(({ version }) => version >= kOldestToolkit);
  if (!chosen) {
    const reason =
      candidates.length > 0
        ? `the CUDA toolkit found is ${versionText(candidates[0].version)}, 12.8 or newer is needed`
        : "no CUDA toolkit was found (looked at nvcc on PATH, CUDA_HOME, /usr/local/cuda)";
    return { nvccReason: reason, includeReason: reason };
  }
  if (!nvcc) return { include: chosen.include, nvccReason: "nvcc was not found" };
  const release = /release (\d+)\.(\d+)/.exec(capture(nvcc, ["--version"]).stdout);
  const version = release ? Number(release[1]) * 1000 + Number(release[2]) * 10 : 0;
  if (version < kOldestToolkit) {
    return {
      include: chosen.include,
      nvccReason: `nvcc is ${versionText(version)}, 12.8 or newer is needed`,
    };
  }
  return { include: chosen.include, nvcc };
}
