// Two copies of the package in one process: as ES module and CommonJS, and from two folders.
import {
  copyFileSync,
  cpSync,
  mkdirSync,
  mkdtempSync,
  readdirSync,
  rmSync,
  symlinkSync,
} from "node:fs";
import { createRequire } from "node:module";
import { tmpdir } from "node:os";
import { dirname, join } from "node:path";
import { pathToFileURL } from "node:url";
import { afterAll, describe, expect, it } from "vitest";
import { packageFolder, runChild, success } from "./child.ts";

const scratch = mkdtempSync(join(tmpdir(), "spindlekv-copies-"));
afterAll(() => rmSync(scratch, { recursive: true, force: true }));

const require = createRequire(import.meta.url);

/** Where the addon that the tests use lies, with its backends. */
function binaryFolder(): string {
  const find = require("node-gyp-build") as { resolve(folder: string): string };
  return dirname(find.resolve(packageFolder));
}

/** The package, installed once more. */
function installCopy(): string {
  const folder = mkdtempSync(join(scratch, "copy-"));
  copyFileSync(join(packageFolder, "package.json"), join(folder, "package.json"));
  cpSync(join(packageFolder, "dist"), join(folder, "dist"), { recursive: true });
  const binaries = binaryFolder();
  mkdirSync(join(folder, "build/Release"), { recursive: true });
  for (const name of readdirSync(binaries)) {
    if (/^spindlekv\.node$|_cpu\./.test(name)) {
      copyFileSync(join(binaries, name), join(folder, "build/Release", name));
    }
  }
  symlinkSync(join(packageFolder, "node_modules"), join(folder, "node_modules"));
  return folder;
}

/** A program that loads `one` and `other` by these expressions and mixes their handles. */
const useBoth = (one: string, other: string) => `
  import { createRequire } from "node:module";
  const one = ${one};
  const other = ${other};
  const sum = async (copy) => {
    const device = await copy.openDevice("cpu");
    const input = copy.Tensor.from(device, "f32", [2, 2], [1, 2, 3, 4]);
    const out = copy.Tensor.zeros(device, "f32", [1, 2]);
    await copy.reduceGroupAsync({ in: input, out, group: 2, kind: "sum" });
    console.log(JSON.stringify(Array.from(await out.read())));
    return { device, input, out };
  };
  const mine = await sum(one);
  const theirs = await sum(other);
  console.log(other.Tensor !== one.Tensor);
  try {
    other.reduceGroup({ in: mine.input, out: theirs.out, group: 2, kind: "sum" });
  } catch (error) {
    console.log(error.code, error instanceof other.SpindleKVError);
  }
`;

const imported = (folder: string) =>
  `await import(${JSON.stringify(pathToFileURL(join(folder, "dist/index.mjs")).href)})`;

describe("two copies in one process", () => {
  it("as ES module and CommonJS: both work, and see each other's devices as others", async () => {
    const path = JSON.stringify(join(packageFolder, "dist/index.cjs"));
    const result = await runChild(
      useBoth(imported(packageFolder), `createRequire(${path})(${path})`),
    );
    expect(result).toMatchObject(success);
    expect(result.stdout.trim().split("\n")).toEqual([
      "[4,6]",
      "[4,6]",
      "true",
      "ERR_SPINDLEKV_WRONG_DEVICE true",
    ]);
  });

  it("from two folders: both work, and a handle of one is no handle of the other", async () => {
    // Each copy finds the addon of its own folder.
    const env = { SPINDLEKV_PREBUILD: "" };
    const program = useBoth(imported(installCopy()), imported(installCopy()));
    const result = await runChild(program, { env });
    expect(result).toMatchObject(success);
    expect(result.stdout.trim().split("\n")).toEqual([
      "[4,6]",
      "[4,6]",
      "true",
      "ERR_SPINDLEKV_ARGUMENT true",
    ]);
  });
});
