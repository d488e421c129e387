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
  it("times probes once and arms in turn, another first each repeat", async () => {
    const { calls, takes, clock } = fakeRun();
    const samples = await interleave(
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

  it("does not time the warm-up", async () => {
    const { calls, takes, clock } = fakeRun();
    const schedule = { rounds: 1, repeats: 1, warmUp: 2, seconds: 60 };
    const samples = await interleave([], [takes("a", 1)], schedule, clock);
    expect(calls).toHaveLength(3);
    expect(samples.get("a")).toEqual([[0.001]]);
  });

  it("stops when its time is over, after three rounds at the least", async () => {
    const slow = fakeRun();
    const schedule = { rounds: 50, repeats: 1, warmUp: 0, seconds: 1 };
    await interleave([], [slow.takes("a", 5000)], schedule, slow.clock);
    expect(slow.calls).toHaveLength(3);
    const quick = fakeRun();
    await interleave([], [quick.takes("a", 100)], schedule, quick.clock);
    expect(quick.calls).toHaveLength(11); // the round that begins at 1.0 s still runs
  });

  it("refuses two contestants of one name", async () => {
    const { takes, clock } = fakeRun();
    const schedule = { rounds: 1, repeats: 1, warmUp: 0, seconds: 1 };
    const twice = interleave([takes("a", 1)], [takes("a", 1)], schedule, clock);
    await expect(twice).rejects.toThrow("named a");
  });

  it("takes a promise's own seconds, and waits for one without", async () => {
    const { takes, clock } = fakeRun();
    const schedule = { rounds: 1, repeats: 1, warmUp: 0, seconds: 1 };
    const other = takes("b", 4);
    const samples = await interleave(
      [],
      [
        { name: "a", run: () => Promise.resolve(0.25) },
        { name: "b", run: () => Promise.resolve().then(other.run) },
      ],
      schedule,
      clock,
    );
    expect(samples.get("a")).toEqual([[0.25]]);
    expect(samples.get("b")).toEqual([[0.004]]);
  });

  it("calls what is slow less often", async () => {
    const { calls, takes, clock } = fakeRun();
    const schedule = { rounds: 2, repeats: 3, warmUp: 0, seconds: 1 };
    const samples = await interleave(
      [],
      [takes("a", 1), { ...takes("slow", 9), most: 1 }],
      schedule,
      clock,
    );
    expect(calls.filter((name) => name === "slow")).toHaveLength(2);
    expect(samples.get("a")!.map(({ length }) => length)).toEqual([3, 3]);
  });
});
