/**
 * Timing several things in one run, in turn, so that a slow minute of the machine hits all of them.
 *
 * A round times every probe once, then every arm `repeats` times. Arms take turns inside a repeat, and the
 * one that begins moves on with each repeat, so that none always follows the same other.
 */

/** Something that is timed: one call is one sample. */
export interface Contestant {
  readonly name: string;
  /**
   * A promise is waited for; a number that it resolves to is the seconds, from one who knows better than the clock
   * around it: another process, or a share of a longer call.
   */
  readonly run: () => unknown;
  /** Calls a round at most: for what is slow. */
  readonly most?: number;
}

/** What {@link interleave} does. */
export interface Schedule {
  readonly rounds: number;
  readonly repeats: number;
  /** Untimed rounds of one repeat before. */
  readonly warmUp: number;
  /** No further round starts after so many seconds, but three are always done. */
  readonly seconds: number;
}

/** Seconds of every sample, `[round][repeat]`; probes have one repeat. */
export type Samples = ReadonlyMap<string, readonly (readonly number[])[]>;

const kLeastRounds = 3;

/**
 * Runs the schedule.
 *
 * @param now clock in milliseconds
 * @throws Error when two contestants share a name
 */
export async function interleave(
  probes: readonly Contestant[],
  arms: readonly Contestant[],
  schedule: Schedule,
  now: () => number = () => performance.now(),
): Promise<Samples> {
  const samples = new Map<string, number[][]>();
  for (const { name } of [...probes, ...arms]) {
    if (samples.has(name)) throw new Error(`interleave: expected one contestant named ${name}`);
    samples.set(name, []);
  }
  const time = async ({ name, run }: Contestant) => {
    const start = now();
    const pending = run();
    // What is done by now has its time taken before anything else gets the thread.
    const own = pending instanceof Promise ? await pending : undefined;
    const seconds = typeof own === "number" ? own : (now() - start) / 1000;
    samples.get(name)!.at(-1)!.push(seconds);
  };

  for (let round = 0; round < schedule.warmUp; round++) {
    for (const { run } of [...probes, ...arms]) await run();
  }
  const start = now();
  for (let round = 0; round < schedule.rounds; round++) {
    if (round >= kLeastRounds && now() - start > schedule.seconds * 1000) break;
    for (const rows of samples.values()) rows.push([]);
    for (const probe of probes) await time(probe);
    for (let repeat = 0; repeat < schedule.repeats; repeat++) {
      for (let i = 0; i < arms.length; i++) {
        const arm = arms[(i + repeat) % arms.length];
        if (repeat < (arm.most ?? schedule.repeats)) await time(arm);
      }
    }
  }
  return samples;
}
