/** rope: turning the keys of a layer, in both styles of pairs. */
import { type RopeParams, rope } from "spindlekv";
import { compareExact } from "../../test/harness/compare.ts";
import { ropeTwin } from "../../test/oracle/rope.ts";
import { type BenchCase, kPortable, times } from "../harness/case.ts";
import { ropeValues } from "../harness/workbench.ts";

interface RopeShape {
  readonly [axis: string]: number;
  readonly heads: number;
  readonly headDim: number;
  readonly tokens: number;
}

const kStyles = ["norm", "neox"] as const;
const kChecked = 8; // tokens; the twin is slow

export const ropeCase: BenchCase<RopeShape> = {
  op: "rope",
  what: "f16 rows turned to their positions, out of place",
  shapes: { "layer-8k": { heads: 8, headDim: 128, tokens: 8192 } },
  bytes: ({ heads, headDim, tokens }) => 2 * 2 * heads * headDim * tokens,
  flops: ({ heads, headDim, tokens }) => 3 * heads * headDim * tokens,
  baseline: kPortable,
  setup(bench, { heads, headDim, tokens }, copies) {
    const table = bench.ropeTable(tokens, headDim);
    const positionsTo = bench.positions(tokens);
    const inputs = times(copies, () => ({
      in: bench.normalF16([heads, tokens, headDim]),
      out: bench.zeros("f16", [heads, tokens, headDim]),
      positionsTo,
    }));
    const paramsOf = (style: (typeof kStyles)[number]) =>
      inputs.map((input): RopeParams => ({ ...input, rope: { table, style } }));
    return {
      arms: kStyles.map((style) => ({
        name: style,
        runs: paramsOf(style).map((params) => () => rope(params)),
      })),
      async check() {
        const last = { offset: (tokens - kChecked) * headDim, shape: [kChecked, headDim] };
        for (const style of kStyles) {
          const [params] = paramsOf(style);
          rope(params);
          const expected = ropeTwin(
            {
              x: await inputs[0].in.view(last).read(),
              heads: 1,
              tokens: kChecked,
              headDim,
              positionsTo: Int32Array.from({ length: kChecked }, (_, i) => tokens - kChecked + i),
              rope: await ropeValues(table, style),
            },
            "f16",
          );
          compareExact(style, await inputs[0].out.view(last).read(), expected);
        }
      },
    };
  },
};
