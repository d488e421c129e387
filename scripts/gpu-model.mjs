// Predicts the GPU rows of the benchmarks from the machine code, as long as no GPU is at hand: counts the
// instructions of each kernel, loops multiplied by their trip counts, against what the device can do.
//
//   node scripts/gpu-model.mjs [--device h100|h200] [--arch sm_80,...] [--detail]    writes docs/gpu-model.md
//
//   --device   the device of the predictions; the page is that of the H100
//   --arch     architectures of the table of occupancies; all by default
//
// What each kernel's loops do is data in scripts/gpu-model/; docs/gpu-model.md says how far to trust it.
import { writeFileSync } from "node:fs";
import { join } from "node:path";
import { parseArgs } from "node:util";
import { architectures, devices } from "./gpu-model/devices.mjs";
import { modelPage } from "./gpu-model/page.mjs";
import { occupancy, predictOp } from "./gpu-model/predict.mjs";
import { rows } from "./gpu-model/rows.mjs";
import { readKernels } from "./support/kernels.mjs";
import { fail, root, say } from "./support/run.mjs";
import { findToolkit } from "./support/toolchain.mjs";

const { values: options } = parseArgs({
  options: {
    device: { type: "string", default: "h100" },
    arch: { type: "string", default: Object.keys(architectures).join() },
    detail: { type: "boolean" },
  },
});
const device = devices[options.device];
if (!device)
  fail(`gpu-model: expected ${Object.keys(devices)} for --device, got ${options.device}`);
const { nvcc, nvccReason } = findToolkit();
if (!nvcc) fail(`gpu-model: ${nvccReason}`);

const models = rows.flatMap(({ ops }) => Object.values(ops)).flatMap(({ steps }) => steps);
const files = [...new Set(models.map(({ model }) => model.source))];
const shown = options.arch.split(",");
const unknown = shown.find((name) => !(name in architectures));
if (unknown) fail(`gpu-model: expected ${Object.keys(architectures)} for --arch, got ${unknown}`);
const compiled = [...new Set([device.architecture, ...shown])];
const { kernels, errors } = await readKernels(nvcc, files, compiled);
if (errors.length > 0) fail(errors.join("\n"));
const findKernel = ({ kernel: name }, architecture) => {
  const kernel = kernels.find((each) => each.name === name && each.architecture === architecture);
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
/** What each kernel uses, and how many of its blocks an SM of each architecture holds. */
const resources = [...new Map(models.map((step) => [step.model.kernel, step])).values()].map(
  ({ model, shape }) => {
    const { threads, dynamicBytes = 0 } = model.launch(shape);
    return {
      name: model.kernel,
      threads,
      uses: shown.map((architecture) => {
        const kernel = findKernel(model, architecture);
        const sharedBytes = kernel.sharedBytes + dynamicBytes;
        const blocks = occupancy(architecture, kernel, { threads, sharedBytes });
        return { architecture, registers: kernel.registers, sharedBytes, blocks };
      }),
    };
  },
);
if (options.device === "h100") {
  const page = modelPage(device, predicted, resources, [...problems]);
  writeFileSync(join(root, "docs", "gpu-model.md"), page);
  say("gpu-model: wrote docs/gpu-model.md");
}
