// Every SIMD path of the CPU backend gives the same bits in all canonical outputs.
import { execFile } from "node:child_process";
import { fileURLToPath } from "node:url";
import { promisify } from "node:util";
import { describe, expect, it } from "vitest";

const root = fileURLToPath(new URL("../..", import.meta.url));

// The child loads TypeScript through Vite's module runner, so that it needs no build of its own.
const CHILD = `
  import { runnerImport } from "vite";
  const { module } = await runnerImport("./test/harness/isa-outputs.ts");
  console.log("OUTPUTS" + JSON.stringify(await module.canonicalOutputs()));
`;

async function outputsOf(isa: string | undefined): Promise<string[]> {
  const env = { ...process.env };
  delete env.SPINDLEKV_CPU_ISA;
  if (isa !== undefined) env.SPINDLEKV_CPU_ISA = isa;
  const { stdout } = await promisify(execFile)(
    process.execPath,
    ["--input-type=module", "-e", CHILD],
    {
      cwd: root,
      env,
      maxBuffer: 2 ** 26,
    },
  );
  const line = stdout.split("\n").find((text) => text.startsWith("OUTPUTS"));
  return JSON.parse(line!.slice("OUTPUTS".length)) as string[];
}

describe("canonical outputs are the same bits on every instruction set", () => {
  it("baseline, avx2, avx512 and what this processor picks by itself", async ({ task }) => {
    task.meta.backend = "cpu";
    const picked = await outputsOf(undefined);
    const baseline = await outputsOf("baseline");
    const isPath = (line: string) => line.startsWith("path ");
    const hashes = (lines: string[]) => lines.filter((line) => !isPath(line));
    expect(hashes(picked).length).toBeGreaterThan(300);
    expect(hashes(picked)).toEqual(hashes(baseline));
    // The baseline must be another path than the one picked, or nothing was compared.
    if (process.arch === "x64") expect(baseline.find(isPath)).not.toBe(picked.find(isPath));
    // Where the pick has more than plain AVX-512, that is a path of its own.
    const hasMore = /avx512vnni|amx/.test(picked.find(isPath) ?? "");
    const others = [...(process.arch === "x64" ? ["avx2"] : []), ...(hasMore ? ["avx512"] : [])];
    for (const isa of others) expect(hashes(await outputsOf(isa))).toEqual(hashes(baseline));
    task.meta.cases = hashes(picked).length;
  });
});
