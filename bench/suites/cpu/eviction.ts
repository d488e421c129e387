/** An eviction of a layer against the ways it is written in torch. */
import { evictionCase } from "../../cases/eviction.ts";
import { besidePeer } from "./beside-peer.ts";
import { torchGoals } from "./best.ts";
import { type CpuJob, copiesOf, scheduleOf } from "./job.ts";

const kShape = "eviction-16k";

/** The form that computes what we do: products and softmax in f32. */
const kSameForm = { name: "grouped f32", atLeast: 5 };
const kLeastOverBest = 5;

export const evictionJob: CpuJob = {
  name: kShape,
  op: evictionCase.op,
  what: "window scores, mean over the group, selection and compaction of a layer, f16, against the same in torch",
  run: (run) =>
    besidePeer(run, "eviction.py", async (peer) => {
      const sizes = evictionCase.shapes[kShape];
      const bytes = evictionCase.bytes(sizes);
      const copies = copiesOf(run, bytes);
      const { arms, check } = await evictionCase.setup(run.bench, sizes, copies);
      await check();
      const { slots, queryHeads, kvHeads, headDim, window, keep } = sizes;
      const setting = await peer.contest(
        { slots, heads: queryHeads, kv_heads: kvHeads, dims: headDim, window, keep, copies },
        {
          ...run,
          abilities: ["copy", "fma"],
          setting: {
            shape: kShape,
            sizes,
            bytes,
            flops: evictionCase.flops(sizes),
            facts: { copies },
          },
          arms,
          schedule: scheduleOf(run, { rounds: 12, repeats: 3, warmUp: 1, seconds: 25 }),
        },
      );
      return {
        settings: [setting],
        goals: torchGoals(peer, setting.arms, kSameForm, kLeastOverBest),
      };
    }),
};
