// Checks the direction of dependencies from the include and import lines of every source file:
//
//   test -> examples, bench -> lib -> (native addon) binding -> core <- cpu, cuda
//
// cpu and cuda never see each other; napi.h only in binding/; CUDA headers only in cuda/ (and in
// test/simt, which stands in for the toolkit); lib/native.ts alone loads the addon.
// `--list` prints every edge between rooms with the number of lines that make it.
import { existsSync } from "node:fs";
import { posix } from "node:path";
import { filesUnder, readText } from "./support/files.mjs";
import { fail, say } from "./support/run.mjs";
import { typescriptFiles } from "./support/typescript.mjs";

/** Which rooms a room may use besides itself. The longest matching folder is a file's room. */
const allowed = {
  core: [],
  cpu: ["core"],
  cuda: ["core"],
  binding: ["core"],
  "test/simt": ["core", "cuda"],
  lib: [],
  examples: ["lib"],
  bench: ["lib", "test/oracle", "test/harness"],
  test: ["lib", "examples", "bench"],
  "test/harness": ["lib", "test/oracle"],
  // Types alone, which the import check below makes sure of.
  "test/oracle": ["lib"],
};

/** Folders of lib/ that hold one technique a file; techniques do not import each other. */
const kTechniqueFolders = ["score", "budget", "select", "merge", "codec", "share", "recall"];

const rooms = Object.keys(allowed).sort((a, b) => b.length - a.length);
/** A test is one wherever it lies: beside an oracle it may use the harness like any other. */
const roomOf = (path) =>
  /^test\/.*\.test\.ts$/.test(path) ? "test" : rooms.find((room) => path.startsWith(`${room}/`));

const kNapiHeader = /^(napi|node_api|js_native_api)(-inl|_types)?(\.deprecated)?\.h$/;
const kCudaHeader =
  /^(cuda([a-z_0-9]*)\.(h|hpp)|cuda\/.*|cub\/.*|thrust\/.*|nv\/.*|cooperative_groups.*|mma\.h|device_launch_parameters\.h|vector_types\.h|math_constants\.h)$/;

const problems = [];
const edges = new Map();

function recordEdge(file, from, to) {
  const key = `${from} -> ${to}`;
  edges.set(key, (edges.get(key) ?? 0) + 1);
  if (from !== to && !isAllowed(from, to)) problems.push(`${file}: ${from} must not use ${to}`);
}

/** test/ as a whole may use its own inner rooms. */
function isAllowed(from, to) {
  return allowed[from].includes(to) || (from === "test" && to.startsWith("test/"));
}

function checkInclude(file, line) {
  const match = /^\s*#\s*include\s*([<"])([^>"]+)[>"]/.exec(line);
  if (!match) return;
  const [, bracket, name] = match;
  const from = roomOf(file);
  if (bracket === '"') {
    const candidates = [posix.join(posix.dirname(file), name), name];
    const target = candidates.find((path) => existsSync(path));
    if (target !== undefined) {
      const to = roomOf(target);
      if (to === undefined) problems.push(`${file}: includes ${target}, which is in no known room`);
      else recordEdge(file, from, to);
      return;
    }
  }
  if (kNapiHeader.test(name) && from !== "binding") {
    problems.push(`${file}: includes ${name}, which only binding/ may`);
  }
  if (kCudaHeader.test(name) && from !== "cuda" && from !== "test/simt") {
    problems.push(`${file}: includes ${name}, which only cuda/ and test/simt may`);
  }
}

/** Every `from "x"`, `import "x"`, `import("x")` and `require("x")` of a TypeScript file. */
function importsOf(text) {
  const found = [];
  const statement =
    /\b(import|export)\s+(type\s+)?((?:[\w*\s{},$]|\btype\b)*?\s*from\s*)?["']([^"'\n]+)["']/g;
  for (const match of text.matchAll(statement)) {
    found.push({ target: match[4], typeOnly: Boolean(match[2]) });
  }
  for (const match of text.matchAll(/\b(?:import|require)\(\s*["']([^"'\n]+)["']\s*\)/g)) {
    found.push({ target: match[1], typeOnly: false });
  }
  return found;
}

/**
 * The technique that a file holds, or undefined. A technique has an `id`; a file of the same folder
 * without one (a rounding rule, shared types) is there for all of them.
 */
function techniqueOf(path) {
  const match = /^lib\/([^/]+)\/(.+)\.ts$/.exec(path);
  const isTechnique =
    match &&
    kTechniqueFolders.includes(match[1]) &&
    /\bid: "[a-z0-9-]+"/.test(readText(path) ?? "");
  return isTechnique ? `${match[1]}/${match[2]}` : undefined;
}

function checkImports(file) {
  const text = readText(file);
  const from = roomOf(file);
  for (const { target, typeOnly } of importsOf(text)) {
    let path;
    if (target.startsWith(".")) path = posix.join(posix.dirname(file), target);
    else if (/^spindlekv(\/|$)/.test(target)) path = "lib/index.ts";
    else continue;
    const to = roomOf(path.replace(/\.js$/, ".ts"));
    if (to === undefined) {
      if (/\.(json|mjs)$/.test(path)) continue;
      problems.push(`${file}: imports ${target}, which is in no known room`);
      continue;
    }
    recordEdge(file, from, to);
    if (from === "test/oracle" && to === "lib" && !typeOnly) {
      problems.push(`${file}: an oracle may import types alone from lib, and imports ${target}`);
    }
    const technique = techniqueOf(file);
    const other = techniqueOf(`${path.replace(/\.[jt]s$/, "")}.ts`);
    if (technique && other && !typeOnly) {
      problems.push(`${file}: a technique must not import the technique ${other}`);
    }
  }
  const loads = /["']node-gyp-build["']|process\.dlopen|\.node["'`]\)/.test(text);
  if (loads && file !== "lib/native.ts" && from === "lib") {
    problems.push(`${file}: only lib/native.ts loads the addon`);
  }
}

const isNative = (path) => /\.(h|cc|cu|cuh|inc|inl)$/.test(path);
const nativeFiles = ["core", "cpu", "cuda", "binding", "test/simt"].flatMap((folder) =>
  filesUnder(folder, isNative),
);
for (const file of nativeFiles) {
  for (const line of readText(file).split("\n")) checkInclude(file, line);
}
const scripts = typescriptFiles().filter((file) => roomOf(file));
for (const file of scripts) checkImports(file);

if (process.argv.includes("--list")) {
  for (const [edge, count] of [...edges].sort()) console.log(`${edge.padEnd(28)} ${count}`);
}
if (nativeFiles.length === 0 || scripts.length === 0) problems.push("no source files were found");
if (problems.length > 0) fail(`layers:\n  ${problems.join("\n  ")}`);
say(`layers: ${nativeFiles.length + scripts.length} files keep to the direction of dependencies`);
