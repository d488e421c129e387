/**
 * `first`: full decode attention of a Llama-3-8B layer against the machine's own read bandwidth, measured in
 * turn with it. The keys and values of all copies together exceed the last-level cache.
 */
import { openDevice } from "spindlekv";
import { attendCase } from "../cases/attend.ts";
import { contest } from "../harness/contest.ts";
import { goalOf } from "../harness/goal.ts";
import { copiesFor, Machine } from "../harness/machine.ts";
import { type CaseResult, describeEnvironment } from "../harness/result.ts";
import { Workbench } from "../harness/workbench.ts";
import type { RunContext, Suite } from "./suite.ts";

const kLargestRatio = 1.1;

/** The shapes with the share of the read bandwidth asked for, and calls of each arm between two readings. */
const settings: Readonly<Record<string, { readonly share: number; readonly repeats: number }>> = {
  "decode-8k": { share: 0.5, repeats: 8 },
  "decode-32k": { share: 0.6, repeats: 3 },
};

export const first: Suite = { name: "first", jobs: Object.keys(settings), run };

async function run(job: string, { program, root, quick }: RunContext): Promise<CaseResult> {
  const sizes = attendCase.shapes[job];
  const { share, repeats } = settings[job];
  using device = await openDevice("cpu");
  const environment = describeEnvironment(device, root);
  using bench = new Workbench(device);
  const bytes = attendCase.bytes(sizes);
  const copies = copiesFor(bytes);
  const { arms, check } = await attendCase.setup(bench, sizes, copies);
  await check();
  const machine = await Machine.start(program, environment.threads);
  const setting = await contest({
    device,
    machine,
    abilities: ["read"],
    setting: { shape: job, sizes, bytes, flops: attendCase.flops(sizes), facts: { copies } },
    arms,
    schedule: {
      rounds: quick ? 3 : 60,
      repeats: quick ? 2 : repeats,
      warmUp: quick ? 1 : 3,
      seconds: 60,
    },
  });
  await machine.dispose();
  const [plain, ...accumulating] = setting.arms;
  return {
    suite: first.name,
    name: job,
    op: attendCase.op,
    what: attendCase.what,
    baseline: null,
    quick,
    environment,
    settings: [setting],
    goals: [
      goalOf({ what: "share of the read bandwidth", atLeast: share }, plain.share),
      ...accumulating.map(({ name, ratioToFirst }) =>
        goalOf({ what: `${name}, time over plain`, atMost: kLargestRatio }, ratioToFirst!),
      ),
    ],
  };
}
