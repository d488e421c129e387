/** An eviction of a layer against the ways it is written in torch. */
import { evictionCase } from "../../cases/eviction.ts";
import { contest } from "../../harness/contest.ts";
import { goalOf } from "../../harness/goal.ts";
import type { MissingPeer } from "../../harness/peer.ts";
import type { ArmResult } from "../../harness/result.ts";
import { bestOf } from "./best.ts";
import { type CpuJob, copiesOf, presentPeers, scheduleOf, startPeer } from "./job.ts";

const kShape = "eviction-16k";

/** The form that computes what we do: products and softmax in f32. */
const kSameArm = "grouped f32";

export const evictionJob: CpuJob = {
  name: kShape,
  op: evictionCase.op,
  what: "window scores, mean over the group, selection and compaction of a layer, f16, against the same in torch",
  async run(run) {
    const sizes = evictionCase.shapes[kShape];
    const bytes = evictionCase.bytes(sizes);
    const copies = copiesOf(run, bytes);
    const { arms, check } = await evictionCase.setup(run.bench, sizes, copies);
    await check();
    const peer = await startPeer(run, "eviction.py");
    const peers = presentPeers(peer);
    const { slots, queryHeads, kvHeads, headDim, window, keep } = sizes;
    for (const each of peers) {
      const shape = { slots, heads: queryHeads, kv_heads: kvHeads, dims: headDim, window, keep };
      await each.setup({ ...shape, copies });
    }
    const setting = await contest({
      ...run,
      abilities: ["copy", "fma"],
      setting: { shape: kShape, sizes, bytes, flops: evictionCase.flops(sizes), facts: { copies } },
      arms,
      peers,
      schedule: scheduleOf(run, { rounds: 12, repeats: 3, warmUp: 1, seconds: 25 }),
    });
    for (const each of peers) await each.dispose();
    const times = (arm: ArmResult | undefined) => arm?.ratioToFirst ?? (peer as MissingPeer);
    const same = setting.arms.find(({ name }) => name === kSameArm);
    const best = bestOf(setting.arms);
    return {
      settings: [setting],
      goals: [
        goalOf({ what: `times faster than torch, ${kSameArm}`, atLeast: 5 }, times(same)),
        goalOf(
          {
            what: `times faster than the best torch form${best ? `, ${best.name}` : ""}`,
            atLeast: 5,
          },
          times(best),
        ),
      ],
      ...(peers.length > 0 && { peers: peers[0].versions }),
    };
  },
};
