import { describe, expect, it } from "vitest";
import { interleave } from "../../bench/harness/interleave.ts";

/** A clock that stands still but for what the contestants take. */
function fakeRun() {
  let now = 0;
  const calls: string[] = [];
  const takes = (name: string, milliseconds: number) => ({
    name,
    run: () => {
      calls.push(name);
      now += milliseconds;
    },
  });
  return { calls, takes, clock: () => now };
}

describe("interleaving", () => {
  it("times probes once and arms in turn, another first each repeat", () => {
    const { calls, takes, clock } = fakeRun();
    const samples = interleave(
      [takes("read", 100)],
      [takes("a", 2), takes("b", 5)],
      { rounds: 2, repeats: 3, warmUp: 0, seconds: 60 },
      clock,
    );
    const round = ["read", "a", "b", "b", "a", "a", "b"];
    expect(calls).toEqual([...round, ...round]);
    expect(samples.get("read")).toEqual([[0.1], [0.1]]);
    expect(samples.get("a")).toEqual([
      [0.002, 0.002, 0.002],
      [0.002, 0.002, 0.002],
    ]);
    expect(samples.get("b")!.flat()).toHaveLength(6);
  });

  it("does not time the warm-up", () => {
    const { calls, takes, clock } = fakeRun();
    const schedule = { rounds: 1, repeats: 1, warmUp: 2, seconds: 60 };
    const samples = interleave([], [takes("a", 1)], schedule, clock);
    expect(calls).toHaveLength(3);
    expect(samples.get("a")).toEqual([[0.001]]);
  });

  it("stops when its time is over, after three rounds at the least", () => {
    const slow = fakeRun();
    const schedule = { rounds: 50, repeats: 1, warmUp: 0, seconds: 1 };
    interleave([], [slow.takes("a", 5000)], schedule, slow.clock);
    expect(slow.calls).toHaveLength(3);
    const quick = fakeRun();
    interleave([], [quick.takes("a", 100)], schedule, quick.clock);
    expect(quick.calls).toHaveLength(11); // the round that begins at 1.0 s still runs
  });

  it("refuses two contestants of one name", () => {
    const { takes, clock } = fakeRun();
    const schedule = { rounds: 1, repeats: 1, warmUp: 0, seconds: 1 };
    expect(() => interleave([takes("a", 1)], [takes("a", 1)], schedule, clock)).toThrow("named a");
  });
});
