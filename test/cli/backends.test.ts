// The whole of `apply` on every backend there is: what is kept does not depend on it.
import { join } from "node:path";
import { describe, expect, it } from "vitest";
import { apply } from "../../lib/cli/apply.ts";
import { backends } from "../harness/backends.ts";
import { type DumpPart, randomDump, readAll, scratchFolder, writeDump } from "./support.ts";

const folder = scratchFolder();
const input = join(folder, "dump.safetensors");
const kOutputTolerance = 2e-5;

const parts: DumpPart[] = ["query", "key", "key_rope", "value", "hidden_in", "hidden_out"];
const shape = { layers: 2, queryHeads: 4, kvHeads: 2, tokens: 60, headDim: 64 };

async function resultOf(method: string, options: string, device: "cpu" | "simt" | "cuda") {
  const output = join(folder, `${device}.safetensors`);
  await apply({ method, options, input, output, device });
  return readAll(output);
}

for (const { name, device, reason } of backends.filter((backend) => backend.name !== "cpu")) {
  describe(`${name} keeps what cpu keeps`, () => {
    it.for([
      ["full", "{}", "F32"],
      ["slidingwindow", '{"tokens":20}', "F16"],
      ["streamingllm", '{"tokens":20}', "F32"],
      ["snapkv", '{"tokens":30,"window":8}', "F16"],
      ["pyramidkv", '{"tokens":20}', "F32"],
      ["spindlekv", '{"tokens":40,"refine":2}', "F16"],
      ["spindlekv-paper", '{"tokens":36}', "F32"],
      ["pyramidinfer", '{"tokens":24}', "F16"],
      ["adakv", '{"tokens":20,"window":8}', "F16"],
      ["dynamickv", '{"tokens":20}', "F32"],
      ["zigzagkv", '{"tokens":20,"window":8}', "F16"],
      ["cake", '{"tokens":20,"window":8}', "F16"],
      ["lava", '{"tokens":20,"window":8}', "F32"],
      ["tova", '{"tokens":20}', "F16"],
      ["dbudgetkv", '{"least":4,"loss":0.2,"skipLayers":[0]}', "F32"],
      ["squeezeattention", '{"tokens":20}', "F16"],
      ["l2norm", '{"tokens":20}', "F16"],
      ["keydiff", '{"tokens":20}', "F32"],
      ["lagkv", '{"tokens":30,"lag":8}', "F16"],
      ["expectedattention", '{"tokens":20,"futurePositions":16}', "F32"],
    ] as const)("%s %s", async ([method, options, dtype], { task, skip }) => {
      task.meta.backend = name;
      if (device === undefined) skip(reason);
      await writeDump(input, randomDump({ seed: 51, shape, dtype, directions: 7 }), { parts });
      const expected = await resultOf(method, options, "cpu");
      const actual = await resultOf(method, options, name);
      expect([...actual.tensors.keys()]).toEqual([...expected.tensors.keys()]);
      for (const [tensor, { dtype: type, shape: size, values }] of expected.tensors) {
        const other = actual.tensors.get(tensor);
        expect(other, tensor).toMatchObject({ dtype: type, shape: size });
        if (/\.(scores|attention_output)$/.test(tensor)) {
          const wrong = values.map((x, i) => Math.abs(x - (other?.values[i] ?? Number.NaN)));
          expect(Math.max(...wrong), tensor).toBeLessThan(kOutputTolerance);
        } else {
          expect(other?.values, tensor).toEqual(values);
        }
      }
      task.meta.cases = 1;
    });
  });
}
