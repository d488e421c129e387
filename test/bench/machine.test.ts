import { mkdirSync, mkdtempSync, rmSync, writeFileSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { describe, expect, it } from "vitest";
import { busyBetween } from "../../bench/harness/load.ts";
import { copiesFor, lastLevelCacheBytes, rotatedBytes } from "../../bench/harness/machine.ts";
import { folderOf } from "../../bench/harness/result.ts";

const kMib = 2 ** 20;

describe("the bytes that inputs go round", () => {
  it("are twice the largest cache that Linux lists", () => {
    const folder = mkdtempSync(join(tmpdir(), "spindlekv-cache-"));
    for (const [index, size] of Object.entries({ index0: "48K", index3: "266240K" })) {
      mkdirSync(join(folder, index));
      writeFileSync(join(folder, index, "size"), `${size}\n`);
    }
    mkdirSync(join(folder, "power"));
    expect(lastLevelCacheBytes(folder)).toBe(260 * kMib);
    rmSync(folder, { recursive: true });
    expect(lastLevelCacheBytes(folder)).toBe(0);
    expect(rotatedBytes(260 * kMib, 64 * 1024 * kMib)).toBe(520 * kMib);
  });

  it("are at least 512 MiB, and an eighth of the memory at most", () => {
    expect(rotatedBytes(0, 64 * 1024 * kMib)).toBe(512 * kMib);
    expect(rotatedBytes(1024 * kMib, 8 * 1024 * kMib)).toBe(1024 * kMib);
  });

  it("take two copies at least", () => {
    expect(copiesFor(2 ** 40)).toBe(2);
    expect(copiesFor(kMib)).toBe(Math.ceil(rotatedBytes() / kMib));
  });
});

describe("the load", () => {
  it("is the processors that did something between two readings", () => {
    const times = (idle: number, user: number) => ({
      times: { user, nice: 0, sys: 0, idle, irq: 0 },
    });
    const before = [times(100, 50), times(200, 0)];
    expect(busyBetween(before, [times(200, 50), times(300, 0)])).toBe(0);
    expect(busyBetween(before, [times(100, 150), times(250, 50)])).toBe(1.5);
    expect(busyBetween(before, before)).toBe(0);
  });
});

describe("the folder of a device", () => {
  const environment = {
    ...{ device: "NVIDIA H100 80GB HBM3", detail: "", threads: 132, os: "", node: "" },
    ...{ memoryBytes: 0, commit: "", modified: false, date: "", load: 0 },
  };

  it("is cpu, or the name of the GPU", () => {
    expect(folderOf(environment)).toBe("cpu");
    expect(folderOf({ ...environment, kind: "cpu" })).toBe("cpu");
    expect(folderOf({ ...environment, kind: "cuda" })).toBe("nvidia-h100-80gb-hbm3");
  });
});
