/**
 * `first`: full decode attention of a Llama-3-8B layer against the machine's own read bandwidth, measured in
 * turn with it. The keys and values of all copies together exceed any last-level cache.
 */
import { openDevice } from "spindlekv";
import { attendCase } from "../cases/attend.ts";
import { interleave } from "../harness/interleave.ts";
import { armResult, bandwidths, contestantOf, probesOf } from "../harness/measure.ts";
import { MemoryMeter } from "../harness/memory-meter.ts";
import {
  type ArmResult,
  type CaseResult,
  describeEnvironment,
  type Goal,
} from "../harness/result.ts";
import { pairedRatio, spreadOf } from "../harness/statistics.ts";
import { Workbench } from "../harness/workbench.ts";
import type { RunContext, Suite } from "./suite.ts";

const kRotatedBytes = 512 * 1024 * 1024;
const kLargestRatio = 1.1;

/** The shapes with the share of the read bandwidth asked for, and calls of each arm between two readings. */
const settings: Readonly<Record<string, { readonly share: number; readonly repeats: number }>> = {
  "decode-8k": { share: 0.5, repeats: 8 },
  "decode-32k": { share: 0.6, repeats: 3 },
};

export const first: Suite = { name: "first", jobs: Object.keys(settings), run };

async function run(job: string, { program, root, quick }: RunContext): Promise<CaseResult> {
  const shape = attendCase.shapes[job];
  const { share, repeats } = settings[job];
  using device = await openDevice("cpu");
  const environment = describeEnvironment(device, root);
  using bench = new Workbench(device);
  const copies = Math.ceil(kRotatedBytes / attendCase.bytes(shape));
  const { arms, check } = await attendCase.setup(bench, shape, copies);
  await check();

  const meter = await MemoryMeter.start(program, environment.threads);
  const next = { value: 0 };
  const samples = interleave(
    probesOf(meter, ["readOne", "readFour"]),
    arms.map((arm) => contestantOf(arm, next)),
    { rounds: quick ? 3 : 60, repeats: quick ? 2 : repeats, warmUp: quick ? 1 : 3, seconds: 60 },
  );
  const one = bandwidths(samples, "readOne", meter);
  const four = bandwidths(samples, "readFour", meter);
  await meter.dispose();

  // The better way of reading is the machine's bandwidth, round by round.
  const best = one.map((value, round) => Math.max(value, four[round]));
  const plain = samples.get(arms[0].name)!.flat();
  const results = arms.map(({ name }, i): ArmResult => {
    const result = armResult(attendCase, shape, samples, name, best);
    if (i === 0) return result;
    return { ...result, ratioToFirst: pairedRatio(samples.get(name)!.flat(), plain) };
  });
  return {
    suite: first.name,
    name: job,
    op: attendCase.op,
    what: attendCase.what,
    baseline: null,
    quick,
    environment,
    settings: [
      {
        shape: job,
        sizes: shape,
        bytes: attendCase.bytes(shape),
        flops: attendCase.flops(shape),
        facts: { copies },
        bandwidthOf: "reading, the better of one and four streams a thread",
        bandwidth: {
          read: spreadOf(best),
          "read, one stream": spreadOf(one),
          "read, four streams": spreadOf(four),
        },
        arms: results,
      },
    ],
    goals: goalsOf(share, results),
  };
}

function goalsOf(share: number, [plain, ...accumulating]: readonly ArmResult[]): Goal[] {
  const measured = plain.share.median;
  return [
    {
      what: "share of the read bandwidth",
      asked: `>= ${share}`,
      measured,
      met: measured >= share,
    },
    ...accumulating.map(({ name, ratioToFirst }) => ({
      what: `${name}, time over plain`,
      asked: `<= ${kLargestRatio}`,
      measured: ratioToFirst!.median,
      met: ratioToFirst!.median <= kLargestRatio,
    })),
  ];
}
