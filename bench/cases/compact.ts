/** compact: the kept fifth of a layer's slots into new memory. */
import { type CompactParams, compact } from "spindlekv";
import { compareExact } from "../../test/harness/compare.ts";
import { compactOracle } from "../../test/oracle/compact.ts";
import { type BenchCase, kPortable, times } from "../harness/case.ts";

interface CompactShape {
  readonly [axis: string]: number;
  readonly kvHeads: number;
  readonly headDim: number;
  readonly slots: number;
  readonly kept: number;
}

export const compactCase: BenchCase<CompactShape> = {
  op: "compact",
  what: "raw f16 slots chosen at random, ascending",
  shapes: {
    "keep-20%-of-32k": { kvHeads: 8, headDim: 128, slots: 32768, kept: 6554 },
    "all-of-8k": { kvHeads: 8, headDim: 128, slots: 8192, kept: 8192 },
  },
  // K and V rows and positions, in and out, and the index.
  bytes: ({ kvHeads, headDim, kept }) => kvHeads * kept * (2 * (2 * 2 * headDim + 4) + 4),
  flops: () => 0,
  baseline: kPortable,
  setup(bench, { kvHeads, headDim, slots, kept }, copies) {
    const chosen = times(kvHeads, () =>
      Int32Array.from(bench.random.permutation(slots).slice(0, kept)).sort(),
    );
    const inputs = times(
      copies,
      (): CompactParams => ({
        items: chosen.map((indices) => ({
          src: bench.run(slots, headDim),
          dst: bench.emptyRun(kept, headDim),
          indices: bench.from("i32", [kept], indices),
        })),
      }),
    );
    return {
      arms: [{ name: "raw", runs: inputs.map((params) => () => compact(params)) }],
      async check() {
        compact(inputs[0]);
        const { src, dst } = inputs[0].items[0];
        const expected = compactOracle({
          src: {
            codec: "raw",
            rotated: true,
            slots,
            k: (await src.k.read()) as Float32Array,
            v: (await src.v.read()) as Float32Array,
            positions: (await src.positions.read()) as Int32Array,
          },
          headDim,
          indices: Array.from(chosen[0]),
          indexBase: 0,
        });
        for (const part of ["k", "v", "positions"] as const) {
          compareExact(part, (await dst[part].read()) as Float32Array, expected[part]);
        }
      },
    };
  },
};
