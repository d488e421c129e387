/** Time of a decode step against the length of the context. */
import { attendCase } from "../../cases/attend.ts";
import { contest } from "../../harness/contest.ts";
import type { SettingResult } from "../../harness/result.ts";
import { Workbench } from "../../harness/workbench.ts";
import { codebookArm } from "./codebook-arm.ts";
import { decodeSetting } from "./decode-setting.ts";
import { type CpuJob, presentPeers, scheduleOf, startPeer } from "./job.ts";

const kLengths = [1, 2, 4, 8, 16, 32, 64, 128].map((k) => 1024 * k);
const kQuickLengths = kLengths.slice(0, 2);
const kKeep = 0.2;
const kForms = "sdpa enable_gqa,sdpa grouped";

export const scalingContextJob: CpuJob = {
  name: "scaling-context",
  op: attendCase.op,
  what:
    "decode of one token, f16, against the length of the context: all slots raw, with their scores accumulated " +
    `as H2O does, in codebooks of ${kKeep} of the bytes, and in torch`,
  async run(run) {
    const peer = await startPeer(run, "attention.py");
    const peers = presentPeers(peer);
    const settings: SettingResult[] = [];
    for (const slots of run.context.quick ? kQuickLengths : kLengths) {
      using bench = new Workbench(run.device);
      const shape = `decode-${slots / 1024}k`;
      const decode = await decodeSetting(run, shape, slots, bench);
      const { arms, copies, sizes } = decode;
      for (const each of peers) {
        await each.setup({ slots, copies, dtypes: "f16", forms: kForms });
      }
      settings.push(
        await contest({
          ...run,
          abilities: ["read"],
          setting: decode.setting,
          arms: [
            { ...arms[0], name: "full" },
            { ...arms.find(({ name }) => name.endsWith("kv-head"))!, name: "full, accumulating" },
            codebookArm(bench, sizes, { keep: kKeep, copies, name: `codebooks, keep ${kKeep}` }),
          ],
          peers,
          schedule: scheduleOf(run, { rounds: 12, repeats: 3, warmUp: 1, seconds: 3 }),
        }),
      );
    }
    for (const each of peers) await each.dispose();
    return { settings, goals: [], ...(peers.length > 0 && { peers: peers[0].versions }) };
  },
};
