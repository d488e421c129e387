// What a backend says it supports is what the contract promises: every op for f32, f16 and bf16 at every head
// dim that is a multiple of 8 up to 512, and nothing else.
import { expect, it } from "vitest";
import { type Device, ops, SpindleKVError } from "../harness/api.ts";
import { describeOp } from "../harness/backends.ts";
import { checkError } from "../harness/expect-error.ts";

const DTYPES = ["f32", "f16", "bf16"] as const;
const HEAD_DIMS = Array.from({ length: 64 }, (_, i) => 8 * (i + 1));
const WITHOUT_HEAD_DIM = ["poolScores", "reduceGroup", "selectTopk", "rowCosine"] as const;
type OpName = Parameters<Device["supports"]>[0];

describeOp("every op is supported for every dtype and head dim of the contract", (_, device) => {
  for (const op of Object.keys(ops) as OpName[]) {
    it(op, ({ task }) => {
      if ((WITHOUT_HEAD_DIM as readonly string[]).includes(op)) {
        expect(device.supports(op)).toBe(true);
      } else {
        for (const dtype of DTYPES) {
          const missing = HEAD_DIMS.filter((headDim) => !device.supports(op, dtype, headDim));
          expect(missing, `head dims of ${dtype}`).toEqual([]);
        }
        const odd = [7, 12, 513, 520].filter((headDim) => device.supports(op, "f16", headDim));
        expect(odd).toEqual([]);
      }
      task.meta.cases = 1;
    });
  }
});

describeOp("questions about what does not exist are refused", (_, device) => {
  it("an unknown op, a dtype that is no float", ({ task }) => {
    const ask = (op: string, dtype?: string) => {
      try {
        device.supports(op as OpName, dtype as "f32", 64);
      } catch (error) {
        return error;
      }
      return undefined;
    };
    for (const error of [ask("softmax"), ask("attend", "i32"), ask("attend", "f8")]) {
      expect(error).toBeInstanceOf(SpindleKVError);
      checkError(error, { code: "ERR_SPINDLEKV_ARGUMENT" });
    }
    task.meta.cases = 3;
  });
});
