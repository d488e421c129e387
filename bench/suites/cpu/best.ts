/** The peer's fastest form: what a comparison has to be made with. */
import { goalOf } from "../../harness/goal.ts";
import type { ArmResult, Goal } from "../../harness/result.ts";
import type { PeerSide } from "./beside-peer.ts";

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

/** A way to write it in torch that is asked for by name. */
export interface TorchForm {
  readonly name: string;
  readonly atLeast: number;
}

/** How many times faster than the form named, and than the best one. */
export function torchGoals(
  peer: PeerSide,
  arms: readonly ArmResult[],
  { name, atLeast }: TorchForm,
  atLeastBest: number,
): Goal[] {
  const best = bestOf(arms);
  const named = arms.find((arm) => arm.name === name);
  const bestName = best === undefined ? "" : `, ${best.name}`;
  return [
    goalOf({ what: `times faster than torch, ${name}`, atLeast }, peer.timesOurs(named)),
    goalOf(
      { what: `times faster than the best torch form${bestName}`, atLeast: atLeastBest },
      peer.timesOurs(best),
    ),
  ];
}
