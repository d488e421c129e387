// From counts to a time: the largest of what each unit of the device needs, plus what a launch costs.
import { countKernel } from "./count.mjs";
import {
  architectures,
  kCopySeconds,
  kDependentLoadSeconds,
  kLaunchSeconds,
  kMemoryLatencySeconds,
  units,
} from "./devices.mjs";

/** Blocks of a launch that fit on one SM of an architecture at once. */
export function occupancy(architecture, { registers }, { threads, sharedBytes }) {
  const sm = architectures[architecture];
  const warps = Math.ceil(threads / 32);
  // Registers are given to warps in pieces of 256, shared memory in pieces of 128 bytes and 1 KiB a block.
  const warpRegisters = Math.ceil((registers * 32) / 256) * 256;
  const shared = Math.ceil(sharedBytes / 128) * 128 + 1024;
  return Math.min(
    sm.blocks,
    Math.floor(sm.warps / warps),
    Math.floor(sm.registers / (warpRegisters * warps)),
    Math.floor(sm.sharedBytes / shared),
  );
}

/** Cycles of an SM that a warp needs of a unit. */
function unitCycles(costs, counts, overrides) {
  return Object.entries(costs).reduce(
    (sum, [name, cycles]) => sum + (counts[name] ?? 0) * (overrides[name] ?? cycles),
    0,
  );
}

/**
 * The share of the device's time that blocks of equal length use: a round of blocks lasts as long where its last
 * is short, and with few blocks some SMs have one more than others.
 */
export function usedShare(blocks, resident, sms) {
  const round = resident * sms;
  if (blocks > round) return blocks / round / Math.ceil(blocks / round);
  return blocks / sms / Math.ceil(blocks / sms);
}

/** One launch of a kernel: seconds by limit, and what it was counted from. */
export function predictLaunch(device, kernel, model, shape) {
  const launch = model.launch(shape);
  const { counts, problems } = countKernel(kernel, model, shape);
  const sharedBytes = kernel.sharedBytes + (launch.dynamicBytes ?? 0);
  const resident = occupancy(kernel.architecture, kernel, { threads: launch.threads, sharedBytes });
  const warps = (launch.blocks * launch.threads) / 32;
  const cyclesPerSecond = device.clockGHz * 1e9 * device.sms;
  const limits = {
    memory: (launch.bytes ?? 0) / device.copyBytesPerSecond,
    L2: (launch.l2Bytes ?? 0) / device.l2BytesPerSecond,
  };
  for (const [unit, costs] of Object.entries(units)) {
    const cycles = unitCycles(costs, counts, model.cycles ?? {});
    limits[unit] = (warps * cycles) / cyclesPerSecond;
  }
  const share = usedShare(launch.blocks, resident, device.sms);
  for (const unit of Object.keys(units)) limits[unit] /= share;
  if (launch.bytesInFlight !== undefined) {
    const inFlight = Math.min(launch.blocks, resident * device.sms) * launch.bytesInFlight;
    limits.latency = ((launch.bytes ?? 0) * kMemoryLatencySeconds) / inFlight;
  }
  const [limiter, largest] = Object.entries(limits).sort((a, b) => b[1] - a[1])[0];
  const chain = (launch.dependentLoads ?? 0) * kDependentLoadSeconds;
  const seconds = largest + chain;
  return {
    name: kernel.name,
    launch,
    counts,
    problems,
    resident,
    warps,
    limits,
    limiter: chain > largest ? "dependent loads" : limiter,
    seconds,
  };
}

/** An op: its launches one after the other. `steps`: {model, shape, times?}; `copies` of tables before them. */
export function predictOp(device, findKernel, { steps, copies = 0 }) {
  const launches = steps.map(({ model, shape, times = 1 }) => ({
    times,
    ...predictLaunch(device, findKernel(model, device.architecture), model, shape),
  }));
  const work = launches.reduce((sum, { seconds, times }) => sum + seconds * times, 0);
  const overhead =
    launches.reduce((sum, { times }) => sum + times * kLaunchSeconds, 0) + copies * kCopySeconds;
  const largest = [...launches].sort((a, b) => b.seconds * b.times - a.seconds * a.times)[0];
  const limiter = overhead > work ? "launches" : `${largest.limiter} (${largest.name})`;
  return { seconds: work + overhead, overhead, limiter, launches };
}
