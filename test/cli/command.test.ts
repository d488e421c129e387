// The bundled command in a process of its own: status, streams and the file it leaves.
import { spawnSync } from "node:child_process";
import { existsSync } from "node:fs";
import { join } from "node:path";
import { describe, expect, it } from "vitest";
import { randomDump, readAll, scratchFolder, writeDump } from "./support.ts";

const bundle = "dist/cli/main.mjs";
const folder = scratchFolder();
const input = join(folder, "dump.safetensors");
const output = join(folder, "out.safetensors");

function command(...argv: string[]) {
  const { status, signal, stdout, stderr } = spawnSync(process.execPath, [bundle, ...argv], {
    encoding: "utf8",
    timeout: 30_000,
  });
  return { status, signal, stdout, stderr };
}

describe.skipIf(!existsSync(bundle))("the bundled command", () => {
  it("compresses a dump", async () => {
    const shape = { layers: 2, queryHeads: 4, kvHeads: 2, tokens: 40, headDim: 16 };
    await writeDump(input, randomDump({ seed: 41, shape }));
    const flags = ["--input", input, "--output", output, "--device", "cpu"];
    const options = ["--method", "pyramid-kv", "--options", '{"tokens":20}'];
    const result = command("apply", ...options, ...flags);
    expect(result).toMatchObject({ status: 0, signal: null, stderr: "" });
    expect(result.stdout).toMatch(/^pyramidkv on cpu: 80 of 160 slots kept/);
    const { tensors, metadata } = await readAll(output);
    expect(metadata.get("method")).toBe("pyramidkv");
    expect(tensors.get("layers.1.kept")?.dtype).toBe("I32");
  });

  it.each([
    [["--version"], 0],
    [["methods"], 0],
    [["no-such-command"], 2],
    [["apply", "--method", "full", "--input", `${input}.gone`, "--output", output], 3],
  ] as const)("%s ends with status %i", (argv, status) => {
    const result = command(...argv);
    expect(result).toMatchObject({ status, signal: null });
    expect(status === 0 ? result.stderr : result.stdout).toBe("");
    if (status !== 0) expect(result.stderr).toMatch(/^spindlekv: ERR_SPINDLEKV_[A-Z_]+: /);
  });
});
