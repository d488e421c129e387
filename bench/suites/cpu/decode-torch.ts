/** Full decode against the ways it is written in torch. */
import { attendCase } from "../../cases/attend.ts";
import { contest } from "../../harness/contest.ts";
import { goalOf } from "../../harness/goal.ts";
import type { MissingPeer } from "../../harness/peer.ts";
import type { ArmResult } from "../../harness/result.ts";
import { bestOf } from "./best.ts";
import { decodeSetting } from "./decode-setting.ts";
import { type CpuJob, presentPeers, scheduleOf, startPeer } from "./job.ts";

/** What f16 decode is compared with under its own name: the same dtype, the form made for shared heads. */
const kGqaArm = "sdpa enable_gqa f16";

function torchJob(slots: number): CpuJob {
  const shapeName = `torch-${slots / 1024}k`;
  return {
    name: shapeName,
    op: attendCase.op,
    what: "decode of one token, f16, against scaled_dot_product_attention (sdpa) and products of torch in f16 and bf16",
    async run(run) {
      const { setting: own, arms, copies } = await decodeSetting(run, shapeName, slots);
      const peer = await startPeer(run, "attention.py");
      const peers = presentPeers(peer);
      for (const each of peers) await each.setup({ slots, copies, dtypes: "f16,bf16" });
      const setting = await contest({
        ...run,
        abilities: ["read"],
        setting: own,
        arms: [{ ...arms[0], name: "attend" }],
        peers,
        schedule: scheduleOf(run, { rounds: 20, repeats: 5, warmUp: 1, seconds: 20 }),
      });
      for (const each of peers) await each.dispose();
      const best = bestOf(setting.arms);
      const times = (arm: ArmResult | undefined) => arm?.ratioToFirst ?? (peer as MissingPeer);
      const gqa = setting.arms.find(({ name }) => name === kGqaArm);
      return {
        settings: [setting],
        goals: [
          goalOf({ what: `times faster than torch, ${kGqaArm}`, atLeast: 5 }, times(gqa)),
          goalOf(
            {
              what: `times faster than the best torch form${best ? `, ${best.name}` : ""}`,
              atLeast: 2,
            },
            times(best),
          ),
        ],
        ...(peers.length > 0 && { peers: peers[0].versions }),
      };
    },
  };
}

export const torchJobs: readonly CpuJob[] = [torchJob(8192), torchJob(32768)];
