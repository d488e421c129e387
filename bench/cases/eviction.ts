/**
 * The eviction of a layer after its prompt, as compress() does it with SnapKV: five ops in a row. The same
 * step in PyTorch is bench/peers/eviction.py.
 */
import { compact, reduceGroup, selectTopk, windowScores } from "spindlekv";
import { compareExact } from "../../test/harness/compare.ts";
import { selectTopkOracle } from "../../test/oracle/select-topk.ts";
import { type Arm, type BenchCase, kPortable, times } from "../harness/case.ts";

interface EvictionShape {
  readonly [axis: string]: number;
  readonly queryHeads: number;
  readonly kvHeads: number;
  readonly headDim: number;
  readonly slots: number;
  readonly window: number;
  readonly keep: number;
}

const layer = { queryHeads: 32, kvHeads: 8, headDim: 128, window: 32, keep: 0.2 };
const keptOf = ({ slots, keep }: EvictionShape) => Math.round(keep * slots);

export const evictionCase: BenchCase<EvictionShape> = {
  op: "eviction",
  what: "windowScores, reduceGroup (mean), selectTopk with the window kept, compact; and each alone; f16",
  shapes: { "eviction-16k": { ...layer, slots: 16384 } },
  // Keys once, the kept rows of keys and values read and written.
  bytes: (shape) => 2 * shape.kvHeads * shape.headDim * (shape.slots + 2 * 2 * keptOf(shape)),
  flops: ({ queryHeads, headDim, slots, window }) => 2 * queryHeads * window * slots * headDim,
  baseline: kPortable,
  setup(bench, shape, copies) {
    const { queryHeads, kvHeads, headDim, slots, window } = shape;
    const kept = keptOf(shape);
    const steps = times(copies, () => {
      const runs = times(kvHeads, () => bench.run(slots, headDim));
      const sums = bench.zeros("f32", [queryHeads, slots]);
      const scores = bench.zeros("f32", [kvHeads, slots]);
      const indices = bench.zeros("i32", [kvHeads, kept]);
      const counts = bench.zeros("i32", [kvHeads]);
      return {
        scores,
        indices,
        window: {
          q: bench.normalF16([queryHeads, window, headDim]),
          heads: runs.map((run) => [run]),
          queryPosition: slots - window,
          sum: sums,
        },
        reduce: { in: sums, out: scores, group: queryHeads / kvHeads, kind: "mean" as const },
        select: {
          scores,
          lengths: slots,
          k: kept - window,
          sinks: 0,
          recent: window,
          indices,
          counts,
        },
        compact: {
          items: runs.map((src, head) => ({
            src,
            dst: bench.emptyRun(kept, headDim),
            indices: indices.view({ offset: head * kept, shape: [kept] }),
          })),
        },
      };
    });
    type Step = (typeof steps)[number];
    const evict = (step: Step) => {
      windowScores(step.window);
      reduceGroup(step.reduce);
      selectTopk(step.select);
      compact(step.compact);
    };
    for (const step of steps) evict(step); // so that the parts find the indices of their layer
    const part = (name: string, bytes: number, flops: number, run: (step: Step) => void): Arm => ({
      name,
      bytes,
      flops,
      runs: steps.map((step) => () => run(step)),
    });
    const scoreBytes = 4 * slots;
    const keyBytes = 2 * kvHeads * headDim * slots;
    const keptBytes = 2 * kvHeads * headDim * kept;
    return {
      arms: [
        { name: "step", runs: steps.map((step) => () => evict(step)) },
        part(
          "windowScores",
          keyBytes + queryHeads * scoreBytes,
          evictionCase.flops(shape),
          (step) => windowScores(step.window),
        ),
        part("reduceGroup", (queryHeads + kvHeads) * scoreBytes, 0, (step) =>
          reduceGroup(step.reduce),
        ),
        part("selectTopk", kvHeads * (scoreBytes + 4 * kept), 0, (step) => selectTopk(step.select)),
        part("compact", 2 * 2 * keptBytes, 0, (step) => compact(step.compact)),
      ],
      // The ops have checks of their own; here it is that each goes on with what the one before left.
      async check() {
        const [step] = steps;
        const scores = await step.scores.view({ shape: [slots] }).read();
        const [expected] = selectTopkOracle({
          rows: [scores],
          k: [kept - window],
          sinks: 0,
          recent: window,
          unionGroup: 1,
        });
        const indices = await step.indices.view({ shape: [kept] }).read();
        compareExact("indices", indices, expected.indices);
        const { src, dst } = step.compact.items[0];
        const from = (await src.k.read()) as Float32Array;
        const rows = Array.from(indices).flatMap((slot) =>
          Array.from(from.subarray(slot * headDim, (slot + 1) * headDim)),
        );
        compareExact("k", (await dst.k.read()) as Float32Array, Float32Array.from(rows));
      },
    };
  },
};
