// Calls of attend that the fake backend takes as orders.
import { type Device, openDevice } from "../../lib/device.ts";
import { type AttendParams, attend, attendAsync } from "../../lib/ops/index.ts";
import { Tensor } from "../../lib/tensor.ts";
import { fakeBackendFolder, withBackends } from "./fake-backend.ts";

/** attend runs until it is cancelled. */
export const runUntilCancelled = 1000;

/** The fake device `"cuda:<ordinal>"`. */
export function openFake(ordinal = 0): Promise<Device> {
  return withBackends(fakeBackendFolder(), () => openDevice(`cuda:${ordinal}`));
}

/** A small call that is valid on any device. */
export function smallCall(device: Device, queryPosition = 0): AttendParams {
  const shape = [1, 1, 8];
  return {
    q: Tensor.zeros(device, "f32", shape),
    out: Tensor.zeros(device, "f32", shape),
    heads: [
      [
        {
          codec: "raw",
          k: Tensor.zeros(device, "f32", [1, 8]),
          v: Tensor.zeros(device, "f32", [1, 8]),
          positions: Tensor.zeros(device, "i32", [1]),
        },
      ],
    ],
    queryPosition,
  };
}

export function order(device: Device, queryPosition: number): void {
  attend(smallCall(device, queryPosition));
}

export function orderAsync(
  device: Device,
  queryPosition: number,
  signal?: AbortSignal,
): Promise<void> {
  return attendAsync(smallCall(device, queryPosition), { signal });
}
