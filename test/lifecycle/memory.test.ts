// Memory of the CPU: large blocks ask the system for huge pages, and a large workspace goes when it is idle.
import { existsSync, readFileSync } from "node:fs";
import { afterAll, beforeAll, expect, it } from "vitest";
import { type Device, openDevice } from "../../lib/device.ts";
import { buildCodebookAsync } from "../../lib/ops/index.ts";
import { Tensor } from "../../lib/tensor.ts";

const MIB = 2 ** 20;

let device: Device;
beforeAll(async () => {
  device = await openDevice("cpu");
});
afterAll(() => device.dispose());

/** Bytes of this process's mappings that asked for huge pages: `hg` among the kernel's flags of each. */
function bytesThatAsked(): number {
  let bytes = 0;
  let size = 0;
  for (const line of readFileSync("/proc/self/smaps", "utf8").split("\n")) {
    if (line.startsWith("Size:")) size = Number(/\d+/.exec(line)![0]) * 1024;
    if (line.startsWith("VmFlags:") && line.split(" ").includes("hg")) bytes += size;
  }
  return bytes;
}

// The file is there where the kernel was built with huge pages for anonymous memory.
it.skipIf(!existsSync("/sys/kernel/mm/transparent_hugepage/enabled"))(
  "large tensors ask for huge pages, small ones do not",
  () => {
    const before = bytesThatAsked();
    const small = Array.from({ length: 64 }, () => Tensor.zeros(device, "u8", [MIB]));
    expect(bytesThatAsked()).toBe(before);
    // Longer than the longest block that malloc takes from its heap, so that it is a mapping of its own.
    using _large = Tensor.zeros(device, "u8", [65 * MIB + 1]);
    const asked = bytesThatAsked() - before;
    expect(asked).toBeGreaterThanOrEqual(64 * MIB);
    expect(asked).toBeLessThanOrEqual(65 * MIB + 1);
    for (const tensor of small) tensor.dispose();
  },
);

it("the workspace of one large job is given back when no other comes, and made anew for the next", async () => {
  const slots = 2 ** 14;
  using x = Tensor.zeros(device, "f32", [slots, 8]);
  using labels = Tensor.zeros(device, "i32", [slots]);
  using leaders = Tensor.zeros(device, "i32", [slots]);
  using count = Tensor.zeros(device, "i32", [1]);
  const before = device.allocations().bytes;
  const held = () => device.allocations().bytes - before;
  for (let round = 0; round < 2; round++) {
    const problems = [{ x, theta: 0.5, labels, leaders, count }];
    await buildCodebookAsync({ problems, stages: ["cover"] });
    // Two graphs of a bit a pair.
    expect(held()).toBeGreaterThan((2 * slots * slots) / 8);
    await expect.poll(held, { timeout: 10_000 }).toBe(0);
  }
});
