/** Time of a decode step against the length of the context. */
import { attendCase } from "../../cases/attend.ts";
import type { SettingResult } from "../../harness/result.ts";
import { Workbench } from "../../harness/workbench.ts";
import { besidePeer } from "./beside-peer.ts";
import { codebookArm } from "./codebook-arm.ts";
import { decodeSetting } from "./decode-setting.ts";
import { type CpuJob, scheduleOf } from "./job.ts";

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
  run: (run) =>
    besidePeer(run, "attention.py", async (peer) => {
      const settings: SettingResult[] = [];
      for (const slots of run.context.quick ? kQuickLengths : kLengths) {
        using bench = new Workbench(run.device);
        const shape = `decode-${slots / 1024}k`;
        const decode = await decodeSetting(run, shape, slots, bench);
        const { copies, sizes, setting } = decode;
        const [full] = decode.arms;
        const accumulating = decode.arms.find(({ name }) => name.endsWith("kv-head"))!;
        const arms = [
          { ...full, name: "full" },
          { ...accumulating, name: "full, accumulating" },
          codebookArm(bench, sizes, { keep: kKeep, copies, name: `codebooks, keep ${kKeep}` }),
        ];
        const schedule = scheduleOf(run, { rounds: 12, repeats: 3, warmUp: 1, seconds: 3 });
        settings.push(
          await peer.contest(
            { slots, copies, dtypes: "f16", forms: kForms },
            { ...run, abilities: ["read"], setting, arms, schedule },
          ),
        );
      }
      return { settings, goals: [] };
    }),
};
