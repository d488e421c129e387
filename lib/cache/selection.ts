import { selectTopkAsync } from "../ops/index.js";
import { Tensor } from "../tensor.js";
import type { CompressionJob } from "./compress.js";

/** Scores of one layer: a row per KV head, or `group` rows per KV head when each query head ranks for itself. */
export interface LayerScores {
  readonly scores: Tensor;
  /** Slots of each row. */
  readonly lengths: readonly number[];
  /** Rows that share a KV head. */
  readonly group: number;
}

/** The kept slots of one layer. */
export interface Selection extends Disposable {
  /** [kvHeads, slots] i32, ascending. */
  readonly indices: Tensor;
  /** Kept slots of each KV head. */
  readonly counts: readonly number[];
  /** [kvHeads, slots] u16 bits of the query heads that see a slot; absent: all do. */
  readonly masks: Tensor | undefined;
}

/**
 * Selects `k` ranked slots per row beside the protected ones. For positional methods the budget is how many of
 * the last slots stay.
 */
export async function selectLayer(
  job: CompressionJob,
  layer: LayerScores,
  k: number,
): Promise<Selection> {
  const { cache, select, signal } = job;
  const { device } = cache;
  const { kvHeads } = cache.options;
  const longest = layer.scores.shape[1] as number;
  const isPositional = select.recent === "budget";
  const hasMasks = layer.group > 1 && select.visibility === "head";
  const owned: Tensor[] = [];
  const own = (tensor: Tensor): Tensor => {
    owned.push(tensor);
    return tensor;
  };
  const dispose = () => {
    for (const tensor of owned) tensor.dispose();
  };
  try {
    const indices = own(Tensor.zeros(device, "i32", [kvHeads, longest]));
    const masks = hasMasks ? own(Tensor.zeros(device, "u16", [kvHeads, longest])) : undefined;
    using countTensor = Tensor.zeros(device, "i32", [kvHeads]);
    await selectTopkAsync(
      {
        scores: layer.scores,
        lengths: [...layer.lengths],
        k: new Array<number>(layer.lengths.length).fill(isPositional ? 0 : k),
        sinks: job.sinks,
        recent: isPositional ? k : job.recent,
        unionGroup: layer.group,
        indices,
        counts: countTensor,
        ...(masks === undefined ? {} : { masks }),
      },
      signal === undefined ? {} : { signal },
    );
    const counts = Array.from((await countTensor.read()) as Int32Array);
    return { indices, counts, masks, [Symbol.dispose]: dispose };
  } catch (error) {
    dispose();
    throw error;
  }
}
