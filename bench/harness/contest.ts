/** One setting of a case timed: our arms, the peers and the machine's own speed in turn, in one run. */
import type { Device } from "spindlekv";
import type { Arm } from "./case.ts";
import { interleave, type Schedule } from "./interleave.ts";
import { type Ability, summaryOf, type Yardstick } from "./machine.ts";
import { armResult, contestantOf, ratioOf } from "./measure.ts";
import type { Peer } from "./peer.ts";
import type { ArmResult, SettingResult } from "./result.ts";

/** What is timed against what. */
export interface Contest {
  readonly device: Device;
  readonly machine: Yardstick;
  /** What the machine is asked for; shares are of the first. */
  readonly abilities: readonly Ability[];
  readonly setting: Pick<SettingResult, "shape" | "sizes" | "bytes" | "flops" | "facts">;
  /** Ours; ratios are to the first. */
  readonly arms: readonly Arm[];
  /** Called as set up last. */
  readonly peers?: readonly Peer[];
  readonly schedule: Schedule;
}

const kWords: Readonly<Record<Ability, string>> = {
  read: "reading",
  copy: "copying, bytes read plus bytes written",
  fma: "multiply-adds",
};

/** Times everything. */
export async function contest(plan: Contest): Promise<SettingResult> {
  const { device, machine, abilities, setting, arms, peers = [], schedule } = plan;
  // Arms with as many inputs may share them; then they take turns at them too.
  const next = { value: 0 };
  const isShared = arms.every(({ runs }) => runs.length === arms[0].runs.length);
  const contestants = [
    ...arms.map((arm) => contestantOf(arm, isShared ? next : { value: 0 }, device)),
    ...peers.flatMap((peer) => peer.contestants()),
  ];
  const samples = await interleave(machine.probes(abilities), contestants, schedule);
  const bandwidth = machine.rates(samples, abilities[0]);
  const result = (name: string, work: Partial<Arm>, more: Partial<ArmResult>): ArmResult => {
    const { bytes = setting.bytes, flops = setting.flops } = work;
    return {
      ...armResult({ name, bytes, flops }, samples, bandwidth),
      ...(name !== arms[0].name && { ratioToFirst: ratioOf(samples, name, arms[0].name) }),
      ...(work.bytes !== undefined && { bytes }),
      ...(work.flops !== undefined && { flops }),
      ...more,
    };
  };
  return {
    ...setting,
    bandwidthOf: `${kWords[abilities[0]]}; ${machine.way}`,
    bandwidth: summaryOf(machine, samples, abilities),
    arms: [
      ...arms.map((arm) => result(arm.name, arm, {})),
      ...peers.flatMap((peer) => peer.arms.map((name) => result(name, {}, { peer: peer.package }))),
    ],
  };
}
