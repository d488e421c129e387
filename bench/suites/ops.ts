/**
 * `ops`: every case, against the memory bandwidth measured in turn with it (of copying, or of reading) and, on the CPU, against a baseline and
 * the peak of multiply-adds. A copy goes through far more memory than any cache holds, so each call finds its
 * input outside. On a GPU the bandwidth is that of the largest plain copy among the ops.
 */
import { openDevice } from "spindlekv";
import { cases } from "../cases/index.ts";
import type { BenchCase, Shape } from "../harness/case.ts";
import { contest } from "../harness/contest.ts";
import { DeviceCopy } from "../harness/device-copy.ts";
import { interleave } from "../harness/interleave.ts";
import { Machine } from "../harness/machine.ts";
import { contestantOf } from "../harness/measure.ts";
import { type CaseResult, describeEnvironment, type SettingResult } from "../harness/result.ts";
import { type Spread, spreadOf } from "../harness/statistics.ts";
import { Workbench } from "../harness/workbench.ts";
import type { RunContext, Suite } from "./suite.ts";

const kCopies = 3;
/** More takes portable code on one thread more than some seconds a call, and adds nothing to a smaller shape. */
const kMostBaselineFlops = 5e9;

const kebab = (name: string) => name.replaceAll(/[A-Z]/g, (letter) => `-${letter.toLowerCase()}`);

export const ops: Suite = { name: "ops", jobs: cases.map(({ op }) => kebab(op)), run };

async function run(job: string, context: RunContext): Promise<CaseResult> {
  const { root, quick, deviceName } = context;
  const benchCase = cases.find(({ op }) => kebab(op) === job)!;
  using device = await openDevice(deviceName);
  const isCpu = device.kind === "cpu";
  const environment = describeEnvironment(device, root);
  const settings: SettingResult[] = [];
  using copying = new Workbench(device);
  const machine = isCpu
    ? await Machine.start(context.program, environment.threads)
    : new DeviceCopy(copying);
  for (const [name, shape] of Object.entries(benchCase.shapes)) {
    using bench = new Workbench(device);
    const hasBaseline = isCpu && benchCase.flops(shape) <= kMostBaselineFlops;
    const baseline = hasBaseline ? await timeBaseline(benchCase, shape, quick) : undefined;
    const { arms, check, facts = {} } = await benchCase.setup(bench, shape, kCopies);
    await check();
    const setting = await contest({
      device,
      machine,
      abilities: isCpu ? [benchCase.yardstick ?? "copy", "fma"] : ["copy"],
      setting: {
        shape: name,
        sizes: shape,
        bytes: benchCase.bytes(shape),
        flops: benchCase.flops(shape),
        facts,
      },
      arms,
      schedule: { rounds: quick ? 3 : 25, repeats: 1, warmUp: quick ? 1 : 2, seconds: 6 },
    });
    settings.push({
      ...setting,
      arms: setting.arms.map(({ ratioToFirst, ...arm }) => ({
        ...arm,
        ...(baseline !== undefined && { baselineMilliseconds: baseline.get(arm.name)! }),
      })),
    });
  }
  await machine.dispose();
  return {
    suite: ops.name,
    name: job,
    op: benchCase.op,
    what: benchCase.what,
    baseline: isCpu ? benchCase.baseline : null,
    quick,
    environment,
    settings,
    goals: [],
  };
}

/** Milliseconds of each arm on one thread in portable code. */
async function timeBaseline(
  benchCase: BenchCase,
  shape: Shape,
  quick: boolean,
): Promise<Map<string, Spread>> {
  process.env.SPINDLEKV_CPU_ISA = "baseline"; // read when the device is opened
  using device = await openDevice("cpu", { threads: 1 });
  delete process.env.SPINDLEKV_CPU_ISA;
  using bench = new Workbench(device);
  const { arms } = await benchCase.setup(bench, shape, 1);
  const next = { value: 0 };
  const samples = await interleave(
    [],
    arms.map((arm) => contestantOf(arm, next, device)),
    { rounds: quick ? 3 : 10, repeats: 1, warmUp: 0, seconds: 2 },
  );
  return new Map(
    arms.map(({ name }) => [
      name,
      spreadOf(
        samples
          .get(name)!
          .flat()
          .map((seconds) => seconds * 1000),
      ),
    ]),
  );
}
