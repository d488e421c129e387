// An op has the same name in seven places, and a method in four; this fails when one is missing.
// The list of ops is SKV_OPS in core/ops.h, the list of methods is lib/methods/. `--list` prints
// the table.
import { existsSync } from "node:fs";
import { basename, join } from "node:path";
import { filesUnder, readText } from "./support/files.mjs";
import { fail, root, say } from "./support/run.mjs";

const kebab = (name) => name.replaceAll("_", "-");

/** Where an op must be; the first path that exists counts. */
const opPlaces = {
  cpu: (op) => [`cpu/${op}.cc`, `cpu/${op}/${op}.cc`, `cpu/ops/${op}.cc`],
  cuda: (op) => [`cuda/${op}/${op}.cu`],
  binding: (op) => [`binding/ops/${op}.cc`],
  oracle: (op) => [`test/oracle/${kebab(op)}.ts`],
  test: (op) => [`test/ops/${kebab(op)}.test.ts`],
  bench: (op) => [`bench/cases/${kebab(op)}.ts`],
};

/** The headings of a method's page, in order. */
const kMethodHeadings = [
  "Idea",
  "Formula",
  "Source",
  "Differs from the paper",
  "Needs",
  "Cost",
  "Measured quality",
  "When not",
];

/** Files of lib/methods/ that methods are made with, and that are none themselves. */
const kNoMethods = ["compose", "index", "target", "types"];

const problems = [];
const isListing = process.argv.includes("--list");
const exists = (path) => existsSync(join(root, path));

function readOps() {
  const text = readText("core/ops.h") ?? "";
  const body = /#define SKV_OPS\(X\)((?:.*\\\n)*.*)/.exec(text)?.[1] ?? "";
  return [...body.matchAll(/X\((\w+),\s*(\w+)\)/g)].map(([, name, stem]) => ({ name, stem }));
}

function checkOps() {
  const ops = readOps();
  if (ops.length === 0) problems.push("core/ops.h: SKV_OPS(X) names no op");
  for (const { name, stem } of ops) {
    const expectedStem = name.replace(/(^|_)(\w)/g, (_, _bar, letter) => letter.toUpperCase());
    if (stem !== expectedStem) {
      problems.push(`core/ops.h: ${name} has the stem ${stem}, expected ${expectedStem}`);
    }
    const row = Object.entries(opPlaces).map(([place, paths]) => {
      const found = paths(name).find(exists);
      if (!found) problems.push(`${name}: ${paths(name)[0]} is missing`);
      return `${place} ${found ? "yes" : "NO "}`;
    });
    if (isListing) console.log(`${name.padEnd(18)} ${row.join("  ")}`);
  }
  const names = new Set(ops.map(({ name }) => name));
  for (const file of filesUnder("binding/ops", (path) => path.endsWith(".cc"))) {
    const name = basename(file, ".cc");
    // A file with a header of its own is shared by ops; an op's file is not.
    if (!names.has(name) && !exists(`binding/ops/${name}.h`)) {
      problems.push(`${file}: ${name} is no op of core/ops.h`);
    }
  }
  const kernelFolders = filesUnder("cuda")
    .map((path) => path.split("/"))
    .filter((parts) => parts.length > 2)
    .map(([, folder]) => folder);
  for (const folder of new Set(kernelFolders)) {
    if (folder !== "common" && !names.has(folder)) {
      problems.push(`cuda/${folder}: ${folder} is no op of core/ops.h`);
    }
  }
  return ops.length;
}

function checkMethods() {
  const isMethod = (path) => path.endsWith(".ts") && !kNoMethods.includes(basename(path, ".ts"));
  const methods = filesUnder("lib/methods", isMethod).map((path) => basename(path, ".ts"));
  if (methods.length === 0) problems.push("lib/methods: there is no method");
  const entry = readText("lib/index.ts") ?? "";
  const methodIndex = readText("lib/methods/index.ts") ?? "";
  for (const name of methods) {
    const page = `docs/methods/${name}.md`;
    const text = readText(page);
    const headings = [...(text ?? "").matchAll(/^##\s+(.+?)\s*$/gm)].map(([, title]) => title);
    const missing = kMethodHeadings.filter((title) => !headings.includes(title));
    if (text === undefined) problems.push(`${name}: ${page} is missing`);
    else if (missing.length > 0) problems.push(`${page}: no heading ${missing.join(", ")}`);
    const isExported =
      new RegExp(`from\\s+["']\\./methods/${name}(\\.[jt]s)?["']`).test(entry) ||
      (/from\s+["']\.\/methods\/index/.test(entry) &&
        new RegExp(`from\\s+["']\\./${name}(\\.[jt]s)?["']`).test(methodIndex));
    if (!isExported) problems.push(`${name}: lib/index.ts does not export lib/methods/${name}.ts`);
    const test = `test/methods/${name}.test.ts`;
    if (!exists(test)) problems.push(`${name}: ${test} is missing`);
    if (isListing) {
      const row = [text !== undefined, isExported, exists(test)].map((has) =>
        has ? "yes" : "NO ",
      );
      console.log(`${name.padEnd(18)} page ${row[0]}  export ${row[1]}  test ${row[2]}`);
    }
  }
  for (const page of filesUnder("docs/methods", (path) => path.endsWith(".md"))) {
    const name = basename(page, ".md");
    if (name !== "README" && name !== "index" && !methods.includes(name)) {
      problems.push(`${page}: there is no lib/methods/${name}.ts`);
    }
  }
  return methods.length;
}

const opCount = checkOps();
const methodCount = checkMethods();
if (problems.length > 0) fail(`parity:\n  ${problems.join("\n  ")}`);
say(`parity: ${opCount} ops and ${methodCount} methods are in all their places`);
