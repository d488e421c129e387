/** From samples to the figures of a result. */
import type { Arm, BenchCase, Shape } from "./case.ts";
import type { Contestant, Samples } from "./interleave.ts";
import type { Command } from "./memory-worker.ts";
import type { MemoryMeter } from "./memory-meter.ts";
import type { ArmResult } from "./result.ts";
import { pairedRatio, type Spread, spreadOf } from "./statistics.ts";

const kGiga = 1e9;

/** An arm whose calls go round its inputs; `next` is shared, so that two arms do not follow on one input. */
export function contestantOf(arm: Arm, next: { value: number }): Contestant {
  const run = () => {
    arm.runs[next.value % arm.runs.length]();
    next.value += 1;
  };
  return { name: arm.name, run };
}

/** The meter's commands as probes. */
export function probesOf(meter: MemoryMeter, commands: readonly Command[]): Contestant[] {
  return commands.map((command) => ({ name: command, run: () => meter.run(command) }));
}

/** GB/s of every round of a probe. */
export function bandwidths(samples: Samples, probe: Command, meter: MemoryMeter): number[] {
  const bytes = probe === "copy" ? meter.copyBytes : meter.readBytes;
  return samples.get(probe)!.map(([seconds]) => bytes / kGiga / seconds);
}

/** What one arm did, against the bandwidth of each round. */
export function armResult<S extends Shape>(
  benchCase: BenchCase<S>,
  shape: S,
  samples: Samples,
  name: string,
  roundBandwidth: readonly number[],
  baselineMilliseconds?: Spread,
): ArmResult {
  const rounds = samples.get(name)!;
  const bytes = benchCase.bytes(shape);
  const milliseconds = spreadOf(rounds.flat().map((seconds) => seconds * 1000));
  const seconds = milliseconds.median / 1000;
  const rates = rounds.map((repeats) => bytes / kGiga / spreadOf(repeats).median);
  return {
    name,
    milliseconds,
    gigabytesPerSecond: bytes / kGiga / seconds,
    gigaflopsPerSecond: benchCase.flops(shape) / kGiga / seconds,
    share: pairedRatio(rates, roundBandwidth),
    ...(baselineMilliseconds && { baselineMilliseconds }),
  };
}
