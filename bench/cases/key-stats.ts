/** key_stats: norms of a layer's keys and values, and the keys' cosines with their mean direction. */
import { type KeyStatsParams, keyStats, type Run, type Tensor } from "spindlekv";
import { compareExact } from "../../test/harness/compare.ts";
import { keyStatsTwin } from "../../test/oracle/key-stats.ts";
import { type BenchCase, kPortable, times } from "../harness/case.ts";

interface StatsShape {
  readonly [axis: string]: number;
  readonly kvHeads: number;
  readonly headDim: number;
  readonly slots: number;
}

interface Input {
  readonly heads: readonly (readonly Run[])[];
  readonly kNorm: Tensor;
  readonly cosToMean: Tensor;
  readonly vL1: Tensor;
}

const kArms: Record<string, (input: Input) => KeyStatsParams> = {
  "key norms": ({ heads, kNorm }) => ({ heads, kNorm }),
  "cosines to the mean": ({ heads, cosToMean }) => ({ heads, cosToMean }),
  "value norms": ({ heads, vL1 }) => ({ heads, vL1 }),
};

export const keyStatsCase: BenchCase<StatsShape> = {
  op: "keyStats",
  what: "f16 rows as they are stored: each output alone",
  shapes: { "layer-32k": { kvHeads: 8, headDim: 128, slots: 32768 } },
  // Of one side, once: cosines need the keys twice, but the second time is the op's own affair.
  bytes: ({ kvHeads, headDim, slots }) => kvHeads * slots * (2 * headDim + 4),
  flops: ({ kvHeads, headDim, slots }) => 2 * kvHeads * slots * headDim,
  yardstick: "read",
  baseline: kPortable,
  setup(bench, { kvHeads, headDim, slots }, copies) {
    const rows = () => bench.zeros("f32", [kvHeads, slots]);
    const inputs = times(
      copies,
      (): Input => ({
        heads: times(kvHeads, () => [bench.run(slots, headDim)]),
        kNorm: rows(),
        cosToMean: rows(),
        vL1: rows(),
      }),
    );
    return {
      arms: Object.entries(kArms).map(([name, paramsOf]) => ({
        name,
        runs: inputs.map((input) => {
          const params = paramsOf(input);
          return () => keyStats(params);
        }),
      })),
      async check() {
        const [input] = inputs;
        keyStats({ ...input });
        // The first slots: norms do not depend on the others.
        const some = 64;
        const [run] = input.heads[0];
        const first = async (tensor: Tensor) =>
          (await tensor.view({ shape: [some, headDim] }).read()) as Float32Array;
        const expected = keyStatsTwin({
          headDim,
          reindex: false,
          heads: [
            [
              {
                ...{ codec: "raw", rotated: true, slots: some },
                k: await first(run.k),
                v: await first(run.v),
                positions: new Int32Array(some),
              },
            ],
          ],
        });
        for (const name of ["kNorm", "vL1"] as const) {
          const got = await input[name].view({ shape: [some] }).read();
          compareExact(name, got as Float32Array, expected[name][0]);
        }
      },
    };
  },
};
