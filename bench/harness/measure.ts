/** From samples to the figures of a result. */
import type { Device } from "spindlekv";
import type { Arm } from "./case.ts";
import type { Contestant, Samples } from "./interleave.ts";
import type { ArmResult } from "./result.ts";
import { pairedRatio, type Spread, spreadOf } from "./statistics.ts";

const kGiga = 1e9;

/**
 * An arm whose calls go round its inputs; `next` is shared, so that two arms do not follow on one input. On a GPU,
 * where a call only queues its work, a sample is all inputs in turn until the device is done, divided by their number.
 */
export function contestantOf(arm: Arm, next: { value: number }, device: Device): Contestant {
  if (device.kind === "cuda") {
    const run = async () => {
      const start = performance.now();
      for (const call of arm.runs) await call();
      await device.synchronize();
      return (performance.now() - start) / 1000 / arm.runs.length;
    };
    return { name: arm.name, run };
  }
  const run = () => {
    const pending = arm.runs[next.value % arm.runs.length]();
    next.value += 1;
    return pending;
  };
  return { name: arm.name, run };
}

/** What an arm has to do. */
export interface Work {
  readonly name: string;
  readonly bytes: number;
  readonly flops: number;
}

/** What one arm did, against the bandwidth of each round. */
export function armResult(
  { name, bytes, flops }: Work,
  samples: Samples,
  roundBandwidth: readonly number[],
): ArmResult {
  const rounds = samples.get(name)!;
  const milliseconds = spreadOf(rounds.flat().map((seconds) => seconds * 1000));
  const seconds = milliseconds.median / 1000;
  const rates = rounds.map((repeats) => bytes / kGiga / spreadOf(repeats).median);
  return {
    name,
    milliseconds,
    gigabytesPerSecond: bytes / kGiga / seconds,
    gigaflopsPerSecond: flops / kGiga / seconds,
    share: pairedRatio(rates, roundBandwidth),
  };
}

/** Time of `name` over that of `first`: call by call, or by medians of rounds where one is called less often. */
export function ratioOf(samples: Samples, name: string, first: string): Spread {
  const [own, others] = [samples.get(name)!, samples.get(first)!];
  if (own.every((repeats, round) => repeats.length === others[round].length)) {
    return pairedRatio(own.flat(), others.flat());
  }
  const medians = (rounds: readonly (readonly number[])[]) =>
    rounds.map((repeats) => spreadOf(repeats).median);
  return pairedRatio(medians(own), medians(others));
}
