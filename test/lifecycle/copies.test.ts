// Two copies of the package in one process: as ES module and CommonJS, and from two folders.
import { copyFileSync, cpSync, mkdirSync, mkdtempSync, readdirSync, symlinkSync } from "node:fs";
import { createRequire } from "node:module";
import { tmpdir } from "node:os";
import { dirname, join } from "node:path";
import { pathToFileURL } from "node:url";
import { describe, expect, it } from "vitest";
import { packageFolder, runChild, success } from "./child.ts";

const require = createRequire(import.meta.url);

/** Where the addon that the tests use lies, with its backends. */
function binaryFolder(): string {
  const find = require("node-gyp-build") as { resolve(folder: string): string };
  return dirname(find.resolve(packageFolder));
}

/** The package, installed a second time. */
function secondPackage(): string {
  const folder = mkdtempSync(join(tmpdir(), "spindlekv-copy-"));
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

const useBoth = (other: string) => `
  ${other}
  const sum = async (copy) => {
    const device = await copy.openDevice("cpu");
    const input = copy.Tensor.from(device, "f32", [2, 2], [1, 2, 3, 4]);
    const out = copy.Tensor.zeros(device, "f32", [1, 2]);
    await copy.reduceGroupAsync({ in: input, out, group: 2, kind: "sum" });
    console.log(JSON.stringify(Array.from(await out.read())));
    return { device, input, out };
  };
  const mine = await sum(spindlekv);
  const theirs = await sum(other);
  console.log(other.Tensor !== spindlekv.Tensor);
  const mix = () => other.reduceGroup({ in: mine.input, out: theirs.out, group: 2, kind: "sum" });
`;

describe("two copies in one process", () => {
  it("as ES module and CommonJS: both work, and see each other's devices as others", async () => {
    const cjs = JSON.stringify(join(packageFolder, "dist/index.cjs"));
    const result = await runChild(`
      import { createRequire } from "node:module";
      ${useBoth(`const other = createRequire(${cjs})(${cjs});`)}
      try { mix(); } catch (error) { console.log(error.code, error instanceof other.SpindleKVError); }
    `);
    expect(result).toMatchObject(success);
    expect(result.stdout.trim().split("\n")).toEqual([
      "[4,6]",
      "[4,6]",
      "true",
      "ERR_SPINDLEKV_WRONG_DEVICE true",
    ]);
  });

  it("from two folders: both work, and a handle of one is no handle of the other", async () => {
    const folder = secondPackage();
    const url = JSON.stringify(pathToFileURL(join(folder, "dist/index.mjs")).href);
    const result = await runChild(
      `
      ${useBoth(`const other = await import(${url});`)}
      try { mix(); } catch (error) { console.log(error.code, error instanceof other.SpindleKVError); }
    `,
      // Each copy is to find its own addon.
      { env: { SPINDLEKV_PREBUILD: "" } },
    );
    expect(result).toMatchObject(success);
    expect(result.stdout.trim().split("\n")).toEqual([
      "[4,6]",
      "[4,6]",
      "true",
      "ERR_SPINDLEKV_ARGUMENT true",
    ]);
  });
});
