/** append_kv: a chunk of a prompt into the runs of a layer, converted, with and without RoPE. */
import { type AppendKvParams, appendKv } from "spindlekv";
import { compareExact } from "../../test/harness/compare.ts";
import { appendKvTwin } from "../../test/oracle/append-kv.ts";
import { type BenchCase, kPortable, times } from "../harness/case.ts";
import { ropeValues } from "../harness/workbench.ts";

interface AppendShape {
  readonly [axis: string]: number;
  readonly kvHeads: number;
  readonly headDim: number;
  readonly tokens: number;
}

const kChecked = 8; // tokens; the twin is slow

export const appendKvCase: BenchCase<AppendShape> = {
  op: "appendKv",
  what: "f32 rows into f16 runs; rotated: keys turned by RoPE on the way, with their norms",
  shapes: { "prefill-2k": { kvHeads: 8, headDim: 128, tokens: 2048 } },
  // K and V: 4 bytes in, 2 bytes out.
  bytes: ({ kvHeads, headDim, tokens }) => 2 * (4 + 2) * kvHeads * headDim * tokens,
  flops: () => 0,
  baseline: kPortable,
  setup(bench, { kvHeads, headDim, tokens }, copies) {
    const rows = bench.normals(kvHeads * tokens * headDim);
    const table = bench.ropeTable(tokens, headDim);
    const plain = times(copies, (): AppendKvParams => {
      const k = bench.from("f32", [kvHeads, tokens, headDim], rows);
      const v = bench.from("f32", [kvHeads, tokens, headDim], rows);
      const items = times(kvHeads, (head) => {
        const part = { offset: head * tokens * headDim, shape: [tokens, headDim] };
        const dst = bench.emptyRun(tokens, headDim);
        return { k: k.view(part), v: v.view(part), firstPosition: 0, dst };
      });
      return { items };
    });
    const rotated = plain.map(
      ({ items }): AppendKvParams => ({
        items: items.map((item) => ({
          ...item,
          dst: { ...item.dst, rotated: true },
          keyNorms: bench.zeros("f32", [tokens]),
        })),
        rotate: true,
        rope: { table, style: "norm" },
      }),
    );
    return {
      arms: [
        { name: "copied", runs: plain.map((params) => () => appendKv(params)) },
        { name: "rotated", runs: rotated.map((params) => () => appendKv(params)) },
      ],
      async check() {
        const rope = await ropeValues(table, "norm");
        for (const params of [plain[0], rotated[0]]) {
          appendKv(params);
          const { dst } = params.items[0];
          const expected = appendKvTwin({
            k: rows.subarray(0, kChecked * headDim),
            v: rows.subarray(0, kChecked * headDim),
            tokens: kChecked,
            headDim,
            dtype: "f16",
            firstPosition: 0,
            ...(params.rotate && { rope }),
          });
          const first = { shape: [kChecked, headDim] };
          compareExact("k", (await dst.k.view(first).read()) as Float32Array, expected.k);
          compareExact("v", (await dst.v.view(first).read()) as Float32Array, expected.v);
        }
      },
    };
  },
};
