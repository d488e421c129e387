/** The peer's fastest form: what a comparison has to be made with. */
import type { ArmResult } from "../../harness/result.ts";

/** Of the arms that are a peer's the one with the least time over ours; undefined without any. */
export function bestOf(arms: readonly ArmResult[]): ArmResult | undefined {
  const times = ({ ratioToFirst }: ArmResult) => ratioToFirst!.median;
  return arms
    .filter(({ peer }) => peer !== undefined)
    .reduce<ArmResult | undefined>(
      (least, arm) => (least === undefined || times(arm) < times(least) ? arm : least),
      undefined,
    );
}
