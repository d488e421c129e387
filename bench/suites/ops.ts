/**
 * `ops`: every case, against the copy bandwidth measured in turn with it and against the baseline. A copy
 * goes through far more memory than any cache holds, so each call finds its input outside.
 */
import { openDevice } from "spindlekv";
import { cases } from "../cases/index.ts";
import type { BenchCase, Shape } from "../harness/case.ts";
import { interleave } from "../harness/interleave.ts";
import { armResult, bandwidths, contestantOf, probesOf } from "../harness/measure.ts";
import { MemoryMeter } from "../harness/memory-meter.ts";
import { type CaseResult, describeEnvironment, type SettingResult } from "../harness/result.ts";
import { type Spread, spreadOf } from "../harness/statistics.ts";
import { Workbench } from "../harness/workbench.ts";
import type { RunContext, Suite } from "./suite.ts";

const kCopies = 3;

const kebab = (name: string) => name.replaceAll(/[A-Z]/g, (letter) => `-${letter.toLowerCase()}`);

export const ops: Suite = { name: "ops", jobs: cases.map(({ op }) => kebab(op)), run };

async function run(job: string, { program, root, quick }: RunContext): Promise<CaseResult> {
  const benchCase = cases.find(({ op }) => kebab(op) === job)!;
  using device = await openDevice("cpu");
  const environment = describeEnvironment(device, root);
  const settings: SettingResult[] = [];
  const meter = await MemoryMeter.start(program, environment.threads);
  for (const [name, shape] of Object.entries(benchCase.shapes)) {
    using bench = new Workbench(device);
    const baseline = await timeBaseline(benchCase, shape, quick);
    const { arms, check, facts = {} } = await benchCase.setup(bench, shape, kCopies);
    await check();
    const next = { value: 0 };
    const samples = interleave(
      probesOf(meter, ["copy"]),
      arms.map((arm) => contestantOf(arm, next)),
      { rounds: quick ? 3 : 25, repeats: 1, warmUp: quick ? 1 : 2, seconds: 6 },
    );
    const copies = bandwidths(samples, "copy", meter);
    settings.push({
      shape: name,
      sizes: shape,
      bytes: benchCase.bytes(shape),
      flops: benchCase.flops(shape),
      facts,
      bandwidthOf: "copying, bytes read plus bytes written",
      bandwidth: { copy: spreadOf(copies) },
      arms: arms.map((arm) =>
        armResult(benchCase, shape, samples, arm.name, copies, baseline.get(arm.name)),
      ),
    });
  }
  await meter.dispose();
  return {
    suite: ops.name,
    name: job,
    op: benchCase.op,
    what: benchCase.what,
    baseline: benchCase.baseline,
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
  const samples = interleave(
    [],
    arms.map((arm) => contestantOf(arm, next)),
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
