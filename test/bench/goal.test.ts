import { describe, expect, it } from "vitest";
import { goalOf } from "../../bench/harness/goal.ts";
import type { ArmResult } from "../../bench/harness/result.ts";
import { bestOf, torchGoals } from "../../bench/suites/cpu/best.ts";

const spread = { median: 5, low: 4.5, high: 5.5, count: 9 };

describe("a goal", () => {
  it("is met by the median, its bound included", () => {
    expect(goalOf({ what: "times faster", atLeast: 5 }, spread)).toEqual({
      what: "times faster",
      asked: ">= 5",
      measured: 5,
      low: 4.5,
      high: 5.5,
      met: true,
    });
    expect(goalOf({ what: "times faster", atLeast: 5.1 }, spread).met).toBe(false);
    expect(goalOf({ what: "seconds", unit: "s", atMost: 5 }, spread)).toMatchObject({
      asked: "<= 5",
      unit: "s",
      met: true,
    });
    expect(goalOf({ what: "seconds", unit: "s", atMost: 4.9 }, spread).met).toBe(false);
  });

  it("is not met where the peer is missing", () => {
    expect(goalOf({ what: "times faster", atLeast: 5 }, { missing: "torch" })).toEqual({
      what: "times faster",
      asked: ">= 5",
      measured: null,
      met: null,
      because: "peer not installed: torch",
    });
  });
});

describe("the form that a peer is judged by", () => {
  const arm = (name: string, ratio: number, peer?: string): ArmResult => ({
    name,
    milliseconds: spread,
    gigabytesPerSecond: 1,
    gigaflopsPerSecond: 1,
    share: spread,
    ratioToFirst: { ...spread, median: ratio },
    ...(peer !== undefined && { peer }),
  });

  it("is its fastest one, never one of ours", () => {
    const arms = [
      arm("plain", 0.5),
      arm("slow", 9, "torch"),
      arm("fast", 3, "torch"),
      arm("middle", 4, "torch"),
    ];
    expect(bestOf(arms)?.name).toBe("fast");
    expect(bestOf(arms.slice(0, 1))).toBeUndefined();
  });

  it("is asked beside the form named, or both are missing", () => {
    const arms = [arm("ours", 1), arm("sdpa", 9, "torch"), arm("grouped", 3, "torch")];
    const form = { name: "sdpa", atLeast: 5 };
    const peer = {
      contest: () => Promise.reject(new Error("not timed here")),
      timesOurs: (of: ArmResult | undefined) => of?.ratioToFirst ?? { missing: "torch" },
    };
    expect(torchGoals(peer, arms, form, 4)).toMatchObject([
      { what: "times faster than torch, sdpa", measured: 9, met: true },
      { what: "times faster than the best torch form, grouped", measured: 3, met: false },
    ]);
    expect(torchGoals(peer, arms.slice(0, 1), form, 4)).toMatchObject([
      { what: "times faster than torch, sdpa", met: null },
      { what: "times faster than the best torch form", met: null },
    ]);
  });
});
