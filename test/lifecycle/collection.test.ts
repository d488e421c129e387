// Handles that nobody disposed: the collector frees their memory, says so once, and knows how much there is.
import { describe, expect, it } from "vitest";
import { openDevice } from "../../lib/device.ts";
import { Tensor } from "../../lib/tensor.ts";
import { runChild, success } from "./child.ts";

const megabyte = 1 << 20;

/** Collects until `isDone`, with turns of the event loop in between for finalisers to run. */
async function collectUntil(isDone: () => boolean): Promise<void> {
  const { gc } = globalThis;
  if (gc === undefined) throw new Error("node runs without --expose-gc");
  for (let round = 0; round < 50 && !isDone(); round++) {
    gc();
    await new Promise((resolve) => setTimeout(resolve, 5));
  }
}

const program = (body: string) => `
  const { openDevice, Tensor } = spindlekv;
  const device = await openDevice("cpu");
  const rounds = async () => {
    for (let i = 0; i < 20; i++) { gc(); await new Promise((done) => setTimeout(done, 5)); }
  };
  ${body}
`;

describe("collected handles", () => {
  it("give their memory back", async () => {
    using device = await openDevice("cpu");
    const before = device.allocations();
    (() => {
      for (let i = 0; i < 10; i++) Tensor.zeros(device, "u8", [1000]);
    })();
    expect(device.allocations().count).toBe(before.count + 10);
    await collectUntil(() => device.allocations().count === before.count);
    expect(device.allocations()).toEqual(before);
  });

  it("give their number back, and not before", async () => {
    using device = await openDevice("cpu");
    const before = device.allocations().count;
    const live = Array.from({ length: 5 }, () => Tensor.zeros(device, "u8", [1]));
    const numbers = new Set(live.map((tensor) => Tensor.handleOf(tensor)));
    expect(numbers.size).toBe(5);
    const gone = (() => {
      const tensors = Array.from({ length: 5 }, () => Tensor.zeros(device, "u8", [1]));
      return new Set(tensors.map((tensor) => Tensor.handleOf(tensor)));
    })();
    await collectUntil(() => device.allocations().count === before + 5);
    const later = Array.from({ length: 10 }, () => Tensor.zeros(device, "u8", [1]));
    const again = later.map((tensor) => Tensor.handleOf(tensor));
    expect(again.some((number) => gone.has(number))).toBe(true);
    expect(again.some((number) => numbers.has(number))).toBe(false);
    expect(Tensor.handleOf(Object.create(Tensor.prototype))).toBe(-1);
    expect(Tensor.handleOf(again[0])).toBe(-1);
    for (const tensor of [...live, ...later]) tensor.dispose();
  });

  it("count as memory for the collector, which so runs before there are too many", async () => {
    // 800 MB pass through; the JavaScript objects alone are far too small to start a collection.
    const result = await runChild(
      `
      const { openDevice, Tensor } = spindlekv;
      const device = await openDevice("cpu");
      let peak = 0;
      for (let i = 0; i < 200; i++) {
        Tensor.zeros(device, "u8", [${4 * megabyte}]);
        await new Promise(setImmediate);
        peak = Math.max(peak, device.allocations().bytes);
      }
      console.log(peak);
      `,
      { nodeOptions: ["--no-warnings"] },
    );
    expect(result).toMatchObject(success);
    expect(Number(result.stdout)).toBeLessThan(400 * megabyte);
  });

  it("keep their memory while a view of it lives", async () => {
    using device = await openDevice("cpu");
    const before = device.allocations();
    const views: Tensor[] = [];
    (() => {
      const tensor = Tensor.from(device, "i32", [4], [1, 2, 3, 4]);
      views.push(tensor.view({ offset: 2, shape: [2] }));
    })();
    await collectUntil(() => false);
    expect(device.allocations().count).toBe(before.count + 1);
    expect(views[0].readSync()).toEqual(Int32Array.of(3, 4));
    views[0].dispose();
    expect(device.allocations()).toEqual(before);
  });

  it("warn once, however many there are", async () => {
    const result = await runChild(
      program(`
        for (let i = 0; i < 5; i++) Tensor.zeros(device, "f32", [8]);
        await rounds();
      `),
      { nodeOptions: ["--expose-gc"] },
    );
    expect(result.status).toBe(0);
    expect(result.stderr.match(/SPINDLEKV_LEAK/g)).toHaveLength(1);
  });

  it("do not warn when they were disposed, or for views", async () => {
    const result = await runChild(
      program(`
        const kept = Tensor.zeros(device, "f32", [8]);
        for (let i = 0; i < 5; i++) Tensor.zeros(device, "f32", [8]).dispose();
        for (let i = 0; i < 5; i++) kept.view();
        await rounds();
        kept.dispose();
      `),
      { nodeOptions: ["--expose-gc"] },
    );
    expect(result).toMatchObject(success);
  });

  it("include a device whose jobs have run", async () => {
    const result = await runChild(
      program(`
        for (let i = 0; i < 20; i++) await (await openDevice("cpu")).synchronize();
        await rounds();
      `),
      { nodeOptions: ["--expose-gc", "--no-warnings"] },
    );
    expect(result).toMatchObject(success);
  });
});
