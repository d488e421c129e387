// Handles that are disposed, and calls that are aborted, while a job is running.
import { afterAll, beforeAll, describe, expect, it } from "vitest";
import { openFake, orderAsync, runUntilCancelled } from "../contract/orders.ts";
import { type Device, openDevice } from "../../lib/device.ts";
import { reduceGroup, reduceGroupAsync } from "../../lib/ops/index.ts";
import { Tensor } from "../../lib/tensor.ts";

const codeOf = (job: Promise<unknown>) =>
  job.then(
    () => "resolved",
    (error: { code?: string }) => error.code,
  );

describe("dispose during a call", () => {
  it("lets a queued op finish on the memory of its tensors", async () => {
    using device = await openDevice("cpu");
    const before = device.allocations().count;
    const input = Tensor.from(device, "f32", [2, 3], [1, 2, 3, 10, 20, 30]);
    using out = Tensor.zeros(device, "f32", [1, 3]);
    const jobs = Array.from({ length: 50 }, () =>
      reduceGroupAsync({ in: input, out, group: 2, kind: "sum" }),
    );
    input.dispose();
    await Promise.all(jobs);
    expect(await out.read()).toEqual(Float32Array.of(11, 22, 33));
    // The input is gone now; the workspace, if the op had one, stays with the device.
    expect(device.allocations().count).toBeLessThanOrEqual(before + 2);
  });

  it("lets a pending read finish", async () => {
    using device = await openDevice("cpu");
    // More than is copied at once.
    const values = Int32Array.from({ length: 100_000 }, (_, i) => i);
    const tensor = Tensor.from(device, "i32", [values.length], values);
    const reading = tensor.read();
    tensor.dispose();
    expect(await reading).toEqual(values);
    await expect(tensor.read()).rejects.toMatchObject({ code: "ERR_SPINDLEKV_DISPOSED" });
  });

  it("reads little at once when nothing is queued, and behind what is", async () => {
    using device = await openDevice("cpu");
    using input = Tensor.from(device, "f32", [1, 2], [4, 5]);
    using out = Tensor.zeros(device, "f32", [1, 2]);
    const order: string[] = [];
    const turn = new Promise((resolve) => setImmediate(resolve)).then(() => order.push("turn"));
    const read = out.read().then((values) => order.push(`read ${values.join(" ")}`));
    await Promise.all([turn, read]);
    expect(order).toEqual(["read 0 0", "turn"]);
    const job = reduceGroupAsync({ in: input, out, group: 1, kind: "sum" });
    expect(await out.read()).toEqual(Float32Array.of(4, 5));
    await job;
  });

  it("lets a device run what was queued and take nothing more", async () => {
    const device = await openDevice("cpu");
    const input = Tensor.from(device, "f32", [1, 2], [4, 5]);
    const out = Tensor.zeros(device, "f32", [1, 2]);
    const job = reduceGroupAsync({ in: input, out, group: 1, kind: "sum" });
    const reading = out.read();
    device.dispose();
    device.dispose();
    await job;
    expect(await reading).toEqual(Float32Array.of(4, 5));
    expect(() => reduceGroup({ in: input, out, group: 1, kind: "sum" })).toThrowError(
      expect.objectContaining({ code: "ERR_SPINDLEKV_DISPOSED" }),
    );
    expect(() => Tensor.zeros(device, "f32", [1])).toThrowError(
      expect.objectContaining({ code: "ERR_SPINDLEKV_DISPOSED" }),
    );
    input.dispose();
    out.dispose();
    expect(device.allocations()).toEqual({ count: 0, bytes: 0 });
  });
});

describe("abort", () => {
  let device: Device;
  beforeAll(async () => {
    device = await openFake();
  });
  afterAll(() => device.dispose());

  it("stops a running job within a second", async () => {
    const controller = new AbortController();
    const job = orderAsync(device, runUntilCancelled, controller.signal);
    setTimeout(() => controller.abort("enough"), 50);
    const started = performance.now();
    await expect(job).rejects.toMatchObject({ code: "ERR_SPINDLEKV_ABORTED", cause: "enough" });
    expect(performance.now() - started).toBeLessThan(1000);
  });

  it("drops a queued job before it starts, and not its neighbours", async () => {
    const running = new AbortController();
    const queued = new AbortController();
    const jobs = [
      orderAsync(device, runUntilCancelled, running.signal),
      orderAsync(device, runUntilCancelled, queued.signal),
      orderAsync(device, 0),
    ];
    queued.abort();
    running.abort();
    expect(await Promise.all(jobs.map(codeOf))).toEqual([
      "ERR_SPINDLEKV_ABORTED",
      "ERR_SPINDLEKV_ABORTED",
      "resolved",
    ]);
  });

  it("of a signal that fires later changes nothing", async () => {
    const controller = new AbortController();
    await orderAsync(device, 0, controller.signal);
    controller.abort();
    expect(await codeOf(orderAsync(device, 0))).toBe("resolved");
  });
});
