/** A job that is timed beside other people's code for the same work: that code's life, its turns, its times over ours. */
import { type Contest, contest } from "../../harness/contest.ts";
import { type MissingPeer, Peer, type PeerSizes } from "../../harness/peer.ts";
import type { ArmResult, SettingResult } from "../../harness/result.ts";
import type { Spread } from "../../harness/statistics.ts";
import type { JobOutcome, JobRun } from "./job.ts";

/** What a job sees of its peer, which may be missing. */
export interface PeerSide {
  /** Times ours and, where it is installed, the peer over inputs of these sizes. */
  contest(sizes: PeerSizes, plan: Omit<Contest, "peers">): Promise<SettingResult>;
  /** Time of one of its arms over our first; where it is missing, what is missing. */
  timesOurs(arm: ArmResult | undefined): Spread | MissingPeer;
}

/** Starts the script with as many threads as the device has, and ends it after the job. */
export async function besidePeer(
  { context, device }: JobRun,
  script: string,
  time: (peer: PeerSide) => Promise<Omit<JobOutcome, "peers">>,
): Promise<JobOutcome> {
  const started = await Peer.start(context.root, script, device.info().threads);
  if (!(started instanceof Peer)) {
    return time({
      contest: (_, plan) => contest(plan),
      timesOurs: () => started,
    });
  }
  try {
    const outcome = await time({
      contest: async (sizes, plan) => {
        await started.setup(sizes);
        return contest({ ...plan, peers: [started] });
      },
      timesOurs: (arm) => arm!.ratioToFirst!,
    });
    return { ...outcome, peers: started.versions };
  } finally {
    await started.dispose();
  }
}
