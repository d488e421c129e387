import { type Device, openDevice } from "spindlekv";
import { describe, expect, it } from "vitest";
import { DeviceCopy } from "../../bench/harness/device-copy.ts";
import { contestantOf } from "../../bench/harness/measure.ts";
import { Workbench } from "../../bench/harness/workbench.ts";

describe("an arm", () => {
  const armOf = (calls: number[]) => ({
    name: "a",
    runs: [0, 1, 2].map((i) => () => calls.push(i)),
  });

  it("goes round its inputs on the CPU, one a call, arms that share them in turn", () => {
    const calls: number[] = [];
    const next = { value: 0 };
    const cpu = { kind: "cpu" } as Device;
    const [a, b] = [contestantOf(armOf(calls), next, cpu), contestantOf(armOf(calls), next, cpu)];
    for (const arm of [a, b, b, a]) arm.run();
    expect(calls).toEqual([0, 1, 2, 0]);
  });

  it("is all inputs on a GPU, until the device is done, and its time a share of that", async () => {
    const calls: number[] = [];
    const synchronize = async () => {
      calls.push(9);
      await new Promise((resolve) => setTimeout(resolve, 30));
    };
    const gpu = { kind: "cuda", synchronize } as unknown as Device;
    const seconds = await contestantOf(armOf(calls), { value: 0 }, gpu).run();
    expect(calls).toEqual([0, 1, 2, 9]);
    expect(seconds).toBeGreaterThan(0.009);
    expect(seconds).toBeLessThan(0.3);
  });
});

describe("the copy on the device", () => {
  it("counts what is read and what is written", async () => {
    using device = await openDevice("cpu");
    using bench = new Workbench(device);
    const copy = new DeviceCopy(bench, 32);
    expect(copy.way).toContain("1 MiB a call");
    const [probe, ...none] = copy.probes(["copy", "fma"]);
    expect(none).toEqual([]);
    expect(probe.name).toBe("copy");
    await probe.run();
    const samples = new Map([["copy", [[0.5], [0.25]]]]);
    const bytes = 2 * 2 * 2 * 32 * 32 * 128;
    expect(copy.rates(samples, "copy")).toEqual([(bytes / 1e9) * 2, (bytes / 1e9) * 4]);
    expect(copy.rates(samples, "fma")).toEqual([]);
    await copy.dispose();
  });
});
