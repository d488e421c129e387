// Predicts the GPU rows of the benchmarks from the machine code, as long as no GPU is at hand: counts the
// instructions of each kernel, loops multiplied by their trip counts, against what the device can do.
//
//   node scripts/gpu-model.mjs [--device h100|h200] [--detail]    writes docs/gpu-model.md
//
// What each kernel's loops do is data in scripts/gpu-model/; docs/gpu-model.md says how far to trust it.
import { writeFileSync } from "node:fs";
import { join } from "node:path";
import { parseArgs } from "node:util";
import { devices } from "./gpu-model/devices.mjs";
import { modelPage } from "./gpu-model/page.mjs";
import { predictOp } from "./gpu-model/predict.mjs";
import { rows } from "./gpu-model/rows.mjs";
import { readKernels } from "./support/kernels.mjs";
import { fail, root, say } from "./support/run.mjs";
import { findToolkit } from "./support/toolchain.mjs";

const { values: options } = parseArgs({
  options: { device: { type: "string", default: "h100" }, detail: { type: "boolean" } },
});
const device = devices[options.device];
if (!device)
  fail(`gpu-model: expected ${Object.keys(devices)} for --device, got ${options.device}`);
const { nvcc, nvccReason } = findToolkit();
if (!nvcc) fail(`gpu-model: ${nvccReason}`);

const models = rows.flatMap(({ ops }) => Object.values(ops)).flatMap(({ steps }) => steps);
const files = [...new Set(models.map(({ model }) => model.source))];
const { kernels, errors } = await readKernels(nvcc, files, [device.architecture]);
if (errors.length > 0) fail(errors.join("\n"));
const findKernel = ({ kernel: name }) => {
  const kernel = kernels.find((candidate) => candidate.name === name);
  if (kernel === undefined) fail(`gpu-model: no kernel is called ${name}`);
  return kernel;
};

const predicted = rows.map((row) => {
  const ops = Object.fromEntries(
    Object.entries(row.ops).map(([name, op]) => [name, predictOp(device, findKernel, op)]),
  );
  const seconds = Object.fromEntries(Object.entries(ops).map(([name, op]) => [name, op.seconds]));
  return { row, ops, value: row.value(device, seconds) };
});
const problems = new Set(
  predicted.flatMap(({ ops }) =>
    Object.values(ops).flatMap(({ launches }) =>
      launches.flatMap((launch) => launch.problems.map((text) => `${launch.name}: ${text}`)),
    ),
  ),
);
for (const text of problems) say(`gpu-model: ${text}`);
if (options.detail) {
  for (const { row, ops } of predicted) {
    for (const launch of ops.own.launches) {
      const { limits, counts, name, resident, warps } = launch;
      console.log(row.name, name, { resident, warps, ...limits, ...counts });
    }
  }
}
if (options.device === "h100") {
  writeFileSync(join(root, "docs", "gpu-model.md"), modelPage(device, predicted, [...problems]));
  say("gpu-model: wrote docs/gpu-model.md");
}
