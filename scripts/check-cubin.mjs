// Compiles every kernel for every architecture and reads the machine code: no kernel may keep
// anything in local memory (a stack frame, a spill, or a local load or store).
//
//   node scripts/check-cubin.mjs [--arch sm_90a[,sm_80]] [--json FILE] [--all] [file.cu ...]
//
//   --arch   only these architectures
//   --json   writes every kernel's figures to FILE
//   --all    prints every kernel, not only those of the last architecture
//
// Results are kept in build/cubin by content, so a repeated run compiles only what changed.
// nvcc itself says nothing of a dynamically indexed local array (0 bytes spill), hence the reading.
import { writeFileSync } from "node:fs";
import { parseArgs } from "node:util";
import { filesUnder } from "./support/files.mjs";
import { readKernels } from "./support/kernels.mjs";
import { fail, say } from "./support/run.mjs";
import { findToolkit } from "./support/toolchain.mjs";

const kArchitectures = ["sm_80", "sm_86", "sm_89", "sm_90a", "sm_100", "sm_120"];

/** What is wrong with a kernel; empty when nothing is. */
function faultsOf({ stackBytes, spillBytes, counts }) {
  const faults = [];
  if (stackBytes > 0) faults.push(`a stack frame of ${stackBytes} bytes`);
  if (spillBytes > 0) faults.push(`${spillBytes} bytes of register spills`);
  if (counts.LDL) faults.push(`${counts.LDL} local loads`);
  if (counts.STL) faults.push(`${counts.STL} local stores`);
  return faults;
}

// --- the run ------------------------------------------------------------------------------------

const { values: options, positionals } = parseArgs({
  allowPositionals: true,
  options: { arch: { type: "string" }, json: { type: "string" }, all: { type: "boolean" } },
});
const architectures = options.arch?.split(",") ?? kArchitectures;
const unknown = architectures.find((name) => !/^sm_\d+a?$/.test(name));
if (unknown) fail(`check-cubin: expected sm_<number> for --arch, got ${unknown}`);
const files = positionals.length > 0 ? positionals : filesUnder("cuda", (p) => p.endsWith(".cu"));
if (files.length === 0) fail("check-cubin: expected kernels under cuda/, found none");
const { nvcc, nvccReason } = findToolkit();
if (!nvcc) fail(`check-cubin: ${nvccReason}`);
const { kernels, errors, tasks } = await readKernels(nvcc, files, architectures);

const shown = options.all ? architectures : architectures.slice(-1);
for (const kernel of kernels) {
  const { instructions, ...rest } = kernel.counts;
  const highlights = Object.entries(rest)
    .sort()
    .map(([name, count]) => `${name} ${count}`);
  if (!shown.includes(kernel.architecture)) continue;
  console.log(
    `${kernel.architecture} ${kernel.name}: ${kernel.registers} registers, ` +
      `${kernel.sharedBytes} B shared, ${instructions} instructions; ${highlights.join(", ")}`,
  );
}
for (const kernel of kernels) {
  const faults = faultsOf(kernel);
  if (faults.length === 0) continue;
  const { file, name, architecture } = kernel;
  errors.push(`${file}: ${name} on ${architecture} has ${faults.join(", ")}; expected none`);
}
if (options.json) {
  const figures = kernels.map(({ code, lines, ...rest }) => rest);
  writeFileSync(options.json, `${JSON.stringify(figures, null, 2)}\n`);
}

const compiled = tasks.filter(({ seconds }) => seconds > 0);
const slowest = [...compiled].sort((a, b) => b.seconds - a.seconds)[0];
const timing = slowest
  ? `; ${compiled.length} compiled, slowest ${slowest.file} ${slowest.architecture} ` +
    `${slowest.seconds.toFixed(1)} s`
  : "; all from build/cubin";
for (const error of errors) console.error(error);
if (errors.length > 0) fail(`check-cubin: ${errors.length} faults`);
say(
  `check-cubin: ${kernels.length} kernel builds for ${architectures.join(", ")} are clean${timing}`,
);
