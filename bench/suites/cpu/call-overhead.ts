/** What one call costs from TypeScript before it does any work. */
import { measureCallOverhead } from "../../cases/call-overhead.ts";
import type { CpuJob } from "./job.ts";

const kMostMicroseconds = 1.5;

export const callOverheadJob: CpuJob = {
  name: "call-overhead",
  op: "attend",
  what: "one layer's call with tensors over nothing or one slot, in a loop: time until it returns",
  run: async ({ device, context }) => {
    const overheads = measureCallOverhead(device, context.quick ? { calls: 500, rounds: 3 } : {});
    return {
      settings: [],
      goals: overheads.map(({ call, microseconds: { median, low, high } }) => ({
        what: call,
        asked: `<= ${kMostMicroseconds}`,
        measured: median,
        low,
        high,
        met: median <= kMostMicroseconds,
        unit: "us",
      })),
    };
  },
};
