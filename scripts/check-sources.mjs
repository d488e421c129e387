// The source lists of the native build are explicit; this keeps them equal to what is on disk.
//
//   node scripts/check-sources.mjs          fails when a file is missing from its list, or the reverse
//   node scripts/check-sources.mjs --fix    rewrites cmake/sources.cmake, sorted
//
// A CPU file is compiled once per instruction set when it lies in a folder cpu/**/isa/ or its name
// ends in `_isa.cc`.
import { readFileSync, writeFileSync } from "node:fs";
import { join } from "node:path";
import { filesUnder } from "./support/files.mjs";
import { fail, root, say } from "./support/run.mjs";

const kListFile = "cmake/sources.cmake";

const isPerIsa = (path) => /\/isa\//.test(path) || path.endsWith("_isa.cc");
const endsWith = (suffix) => (path) => path.endsWith(suffix);

/** One list: its CMake variable, what it is for, and the files that belong in it. */
const lists = [
  {
    name: "SKV_CORE_SOURCES",
    purpose: "linked into every module",
    files: filesUnder("core", endsWith(".cc")),
  },
  {
    name: "SKV_CPU_SOURCES",
    purpose: "the CPU backend, compiled once",
    files: filesUnder("cpu", (path) => path.endsWith(".cc") && !isPerIsa(path)),
  },
  {
    name: "SKV_CPU_ISA_SOURCES",
    purpose: "the CPU backend, compiled once per instruction set",
    files: filesUnder("cpu", (path) => path.endsWith(".cc") && isPerIsa(path)),
  },
  {
    name: "SKV_CUDA_SOURCES",
    purpose: "the CUDA backend, by nvcc, and by the host compiler for tests",
    files: filesUnder("cuda", endsWith(".cu")),
  },
  {
    name: "SKV_SIMT_SOURCES",
    purpose: "the CUDA execution model on the host, for tests",
    files: filesUnder("test/simt", endsWith(".cc")),
  },
  {
    name: "SKV_BINDING_SOURCES",
    purpose: "the Node-API addon",
    files: filesUnder("binding", endsWith(".cc")),
  },
];

/** The text that the list file has when it is right. */
function expectedText() {
  const blocks = lists.map(({ name, purpose, files }) =>
    [`# ${purpose}`, `set(${name}`, ...files.map((file) => `  ${file}`), ")"].join("\n"),
  );
  const header = [
    "# Every source file of the native build, listed by hand nowhere else.",
    "# Rewritten by `node scripts/check-sources.mjs --fix`.",
  ].join("\n");
  return `${header}\n\n${blocks.join("\n\n")}\n`;
}

/** The files that the list file names now, by variable. */
function listedFiles(text) {
  const listed = new Map();
  for (const match of text.matchAll(/^set\((\w+)\n([^)]*)\)/gm)) {
    listed.set(
      match[1],
      match[2]
        .split("\n")
        .map((line) => line.trim())
        .filter(Boolean),
    );
  }
  return listed;
}

const listPath = join(root, kListFile);
if (process.argv.includes("--fix")) {
  writeFileSync(listPath, expectedText());
  say(`${kListFile}: ${lists.reduce((sum, list) => sum + list.files.length, 0)} files listed`);
} else {
  const text = readFileSync(listPath, "utf8");
  const listed = listedFiles(text);
  const problems = [];
  for (const { name, files } of lists) {
    const named = new Set(listed.get(name) ?? []);
    for (const file of files) if (!named.has(file)) problems.push(`${file} is not in ${name}`);
    const onDisk = new Set(files);
    for (const file of named)
      if (!onDisk.has(file)) problems.push(`${name} names ${file}: no such file`);
  }
  if (problems.length === 0 && text !== expectedText()) problems.push("the lists are not sorted");
  if (problems.length > 0) {
    fail(`${kListFile}: ${problems.join("\n  ")}\n  run \`node scripts/check-sources.mjs --fix\``);
  }
  say(`${kListFile} names every source file`);
}
