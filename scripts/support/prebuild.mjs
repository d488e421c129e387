// Making prebuilds/<platform>-<arch>/ and the tarball, and checking what is in them.
import { existsSync, mkdirSync, readdirSync, rmSync } from "node:fs";
import { join } from "node:path";
import { capture, fail, root, run, say, tool } from "./run.mjs";
import { which } from "./toolchain.mjs";

/** The newest glibc symbol a binary may need: that of Debian 12, Ubuntu 22.04 and RHEL 9. */
const kNewestGlibc = "2.34";

const prebuildFolder = () => join(root, "prebuilds", `${process.platform}-${process.arch}`);

const versionNumber = (text) => {
  const [major, minor = 0] = text.split(".").map(Number);
  return major * 1000 + minor;
};

function checkGlibc(path) {
  if (process.platform !== "linux") return;
  if (!which("objdump")) fail("objdump (binutils) is needed to check the glibc a prebuild needs");
  const symbols = capture("objdump", ["-T", path]).stdout;
  const versions = [...symbols.matchAll(/GLIBC_(\d+\.\d+)/g)].map(([, version]) => version);
  const newest = versions.sort((a, b) => versionNumber(b) - versionNumber(a))[0] ?? "none";
  if (versionNumber(newest) > versionNumber(kNewestGlibc)) {
    fail(`${path} needs GLIBC_${newest}, at most ${kNewestGlibc} is allowed`);
  }
}

/** Builds the prebuilds of this machine; returns the names of the files. */
export function makePrebuilds() {
  rmSync(prebuildFolder(), { recursive: true, force: true });
  const shim = join(root, "scripts", "node-gyp-shim.mjs");
  const options = ["--napi", "--strip", "--tag-libc", "--node-gyp", shim];
  run(tool("prebuildify"), [...options, "-t", process.versions.node]);
  // prebuildify takes every library of build/Release, and a test run leaves one there.
  rmSync(join(prebuildFolder(), "libspindlekv_simt.so"), { force: true });
  const files = existsSync(prebuildFolder()) ? readdirSync(prebuildFolder()).sort() : [];
  if (!files.some((name) => name.endsWith(".node"))) fail("prebuildify left no .node file");
  if (!files.includes("libspindlekv_cpu.so")) fail("the CPU backend is missing from the prebuilds");
  const strangers = files.filter((name) => !/\.node$|^libspindlekv_(cpu|cuda)\.so$/.test(name));
  if (strangers.length > 0) fail(`${strangers.join(", ")} must not be in the prebuilds`);
  for (const name of files) checkGlibc(join(prebuildFolder(), name));
  return files;
}

/** Packs the package into `folder` and returns the tarball's path. */
export function pack(folder) {
  rmSync(folder, { recursive: true, force: true });
  mkdirSync(folder, { recursive: true });
  const packed = capture("npm", ["pack", "--json", "--pack-destination", folder]);
  if (packed.status !== 0) fail(`npm pack failed:\n${packed.stderr}`);
  const name = readdirSync(folder).find((file) => file.endsWith(".tgz"));
  const [{ size, unpackedSize, files }] = JSON.parse(packed.stdout);
  const megabytes = (bytes) => `${(bytes / 1e6).toFixed(1)} MB`;
  say(
    `${name}: ${files.length} files, ${megabytes(size)} packed, ${megabytes(unpackedSize)} unpacked`,
  );
  return join(folder, name);
}
