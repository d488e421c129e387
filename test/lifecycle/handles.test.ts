// A handle that is not what a call expects is an error with a code, never a crash.
import { afterAll, beforeAll, describe, expect, it } from "vitest";
import { type Device, Device as DeviceClass, openDevice } from "../../lib/device.ts";
import { SpindleKVError } from "../../lib/errors.ts";
import { native } from "../../lib/native.ts";
import { reduceGroup, reduceGroupAsync } from "../../lib/ops/index.ts";
import { Tensor } from "../../lib/tensor.ts";

let device: Device;
beforeAll(async () => {
  device = await openDevice("cpu");
});
afterAll(() => device.dispose());

function codeOf(call: () => unknown): string | undefined {
  try {
    call();
  } catch (error) {
    expect(error).toBeInstanceOf(SpindleKVError);
    return (error as SpindleKVError).code;
  }
  return undefined;
}

// What a caller without types may pass.
const strangers: readonly [string, unknown][] = [
  ["undefined", undefined],
  ["null", null],
  ["a number", 7],
  ["a string", "q"],
  ["a symbol", Symbol("q")],
  ["a function", () => 0],
  ["a plain object", {}],
  ["a typed array", new Float32Array(4)],
  ["an object with the class's prototype", Object.create(Tensor.prototype)],
  ["a structured clone", structuredClone({ shape: [1, 4], dtype: "f32" })],
  ["a proxy of nothing", new Proxy({}, {})],
];

describe("in the place of a tensor", () => {
  it.each(strangers)("%s is refused by an op", async (_, stranger) => {
    using good = Tensor.zeros(device, "f32", [1, 4]);
    const params = { in: stranger as Tensor, out: good, group: 1, kind: "sum" } as const;
    expect(codeOf(() => reduceGroup(params))).toBe("ERR_SPINDLEKV_ARGUMENT");
    await expect(reduceGroupAsync(params)).rejects.toMatchObject({
      code: "ERR_SPINDLEKV_ARGUMENT",
      param: "in",
    });
  });

  it.each(strangers)("%s is refused by the methods of Tensor", (_, stranger) => {
    const addon = native();
    const handle = stranger as object;
    expect(codeOf(() => addon.readTensorNow(handle, false))).toBe("ERR_SPINDLEKV_ARGUMENT");
    expect(codeOf(() => addon.writeTensor(handle, new Float32Array(1)))).toBe(
      "ERR_SPINDLEKV_ARGUMENT",
    );
    expect(codeOf(() => addon.tensorPointer(handle))).toBe("ERR_SPINDLEKV_ARGUMENT");
  });

  it("a device is refused, and a tensor in the place of a device", () => {
    using good = Tensor.zeros(device, "f32", [1, 4]);
    const params = { in: device as unknown as Tensor, out: good, group: 1, kind: "sum" } as const;
    expect(codeOf(() => reduceGroup(params))).toBe("ERR_SPINDLEKV_ARGUMENT");
    expect(codeOf(() => Tensor.zeros(good as unknown as Device, "f32", [1]))).toBe(
      "ERR_SPINDLEKV_ARGUMENT",
    );
  });
});

describe("in the place of a device", () => {
  it.each(strangers)("%s is refused", (_, stranger) => {
    expect(codeOf(() => Tensor.zeros(stranger as Device, "f32", [1]))).toBe(
      "ERR_SPINDLEKV_ARGUMENT",
    );
    expect(codeOf(() => native().allocations(stranger as object))).toBe("ERR_SPINDLEKV_ARGUMENT");
  });

  it("a Device made by `new` is refused", () => {
    expect(codeOf(() => new DeviceClass({}, "cpu", 0))).toBe("ERR_SPINDLEKV_ARGUMENT");
  });

  it("an object that is a handle already is not made another", async () => {
    using tensor = Tensor.zeros(device, "f32", [1]);
    expect(codeOf(() => native().attachCancelToken(tensor))).toBe("ERR_SPINDLEKV_ARGUMENT");
    expect(tensor.readSync()).toEqual(Float32Array.of(0));
  });
});

describe("a tensor of another device", () => {
  it("is refused by every form of an op", async () => {
    using other = await openDevice("cpu");
    using input = Tensor.zeros(device, "f32", [1, 4]);
    using out = Tensor.zeros(other, "f32", [1, 4]);
    const params = { in: input, out, group: 1, kind: "sum" } as const;
    expect(codeOf(() => reduceGroup(params))).toBe("ERR_SPINDLEKV_WRONG_DEVICE");
    await expect(reduceGroupAsync(params)).rejects.toMatchObject({
      code: "ERR_SPINDLEKV_WRONG_DEVICE",
    });
  });
});

describe("a disposed handle", () => {
  it("is refused by every use of a tensor", async () => {
    const tensor = Tensor.zeros(device, "f32", [1, 4]);
    using good = Tensor.zeros(device, "f32", [1, 4]);
    const view = tensor.view();
    tensor.dispose();
    tensor[Symbol.dispose]();
    expect(tensor.disposed).toBe(true);
    for (const use of [
      () => tensor.readSync(),
      () => tensor.write([1, 2, 3, 4]),
      () => tensor.pointer,
      () => tensor.view(),
      () => reduceGroup({ in: tensor, out: good, group: 1, kind: "sum" }),
    ]) {
      expect(codeOf(use)).toBe("ERR_SPINDLEKV_DISPOSED");
    }
    await expect(tensor.read()).rejects.toMatchObject({ code: "ERR_SPINDLEKV_DISPOSED" });
    expect(view.readSync()).toEqual(new Float32Array(4));
    view.dispose();
  });

  it("is refused by every use of a device", async () => {
    const closed = await openDevice("cpu");
    const tensor = Tensor.zeros(closed, "f32", [1]);
    closed[Symbol.dispose]();
    expect(closed.disposed).toBe(true);
    for (const use of [
      () => closed.info(),
      () => closed.supports("attend", "f16", 64),
      () => closed.failAllocation(1),
      () => tensor.readSync(),
      () => tensor.view(),
    ]) {
      expect(codeOf(use)).toBe("ERR_SPINDLEKV_DISPOSED");
    }
    await expect(closed.synchronize()).rejects.toMatchObject({ code: "ERR_SPINDLEKV_DISPOSED" });
    tensor.dispose();
    expect(closed.allocations()).toEqual({ count: 0, bytes: 0 });
  });
});
