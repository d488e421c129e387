/** Full decode against the ways it is written in torch. */
import { attendCase } from "../../cases/attend.ts";
import { besidePeer } from "./beside-peer.ts";
import { torchGoals } from "./best.ts";
import { decodeSetting } from "./decode-setting.ts";
import { type CpuJob, scheduleOf } from "./job.ts";

/** What f16 decode is compared with under its own name: the same dtype, the form made for shared heads. */
const kGqaForm = { name: "sdpa enable_gqa f16", atLeast: 5 };
const kLeastOverBest = 2;

function torchJob(slots: number): CpuJob {
  const shapeName = `torch-${slots / 1024}k`;
  return {
    name: shapeName,
    op: attendCase.op,
    what: "decode of one token, f16, against scaled_dot_product_attention (sdpa) and products of torch in f16 and bf16",
    run: (run) =>
      besidePeer(run, "attention.py", async (peer) => {
        const { setting: own, arms, copies } = await decodeSetting(run, shapeName, slots);
        const setting = await peer.contest(
          { slots, copies, dtypes: "f16,bf16" },
          {
            ...run,
            abilities: ["read"],
            setting: own,
            arms: [{ ...arms[0], name: "attend" }],
            schedule: scheduleOf(run, { rounds: 20, repeats: 5, warmUp: 1, seconds: 20 }),
          },
        );
        return {
          settings: [setting],
          goals: torchGoals(peer, setting.arms, kGqaForm, kLeastOverBest),
        };
      }),
  };
}

export const torchJobs: readonly CpuJob[] = [torchJob(8192), torchJob(32768)];
