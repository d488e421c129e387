import { selectTopk, selectTopkAsync } from "../ops/index.js";
import { Tensor } from "../tensor.js";
import type { CompressionJob } from "./compression-job.js";
import type { LayerPlan, LayerScores, SelectPart } from "./method.js";
import { readsHostMemory } from "./staging.js";

/** The kept slots of one layer. */
export interface Selection extends Disposable {
  /** [kvHeads, slots] i32, ascending; nothing of use behind a head's kept slots. */
  readonly indices: Tensor;
  /** Kept slots of each KV head. */
  readonly counts: readonly number[];
  /** [kvHeads, slots] u16 bits of the query heads that see a slot; absent: all do. */
  readonly masks: Tensor | undefined;
}

/** Ranked slots of each row. */
export function rowCounts(plan: LayerPlan, rows: number): number[] {
  return typeof plan === "number" ? new Array<number>(rows).fill(plan) : [...plan];
}

/**
 * Selects the planned ranked slots of each row beside the protected ones. For positional methods the budget is how
 * many of the last slots stay.
 */
export async function selectLayer(
  job: CompressionJob,
  layer: LayerScores,
  plan: LayerPlan,
): Promise<Selection> {
  const { cache, select, signal } = job;
  const { device } = cache;
  const { kvHeads } = cache.options;
  const longest = layer.scores.shape[1] as number;
  const counts = rowCounts(plan, layer.lengths.length);
  // The same number of last slots in every row needs no ranking; other numbers rank by age.
  const last = lastOf(select, counts);
  const byAge = select.recent === "budget" && last === undefined;
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
    const indices = own(Tensor.empty(device, "i32", [kvHeads, longest]));
    const masks = hasMasks ? own(Tensor.empty(device, "u16", [kvHeads, longest])) : undefined;
    using countTensor = Tensor.empty(device, "i32", [kvHeads]);
    const params = {
      scores: byAge ? own(ages(layer)) : layer.scores,
      lengths: [...layer.lengths],
      k: counts.map((k) => k - (last ?? 0)),
      sinks: job.sinks,
      recent: last ?? job.recent,
      unionGroup: layer.group,
      indices,
      counts: countTensor,
      ...(masks === undefined ? {} : { masks }),
    };
    if (isShort(layer)) selectTopk(params);
    else await selectTopkAsync(params, signal === undefined ? {} : { signal });
    const kept = Array.from((await countTensor.read()) as Int32Array);
    return { indices, counts: kept, masks, [Symbol.dispose]: dispose };
  } catch (error) {
    dispose();
    throw error;
  }
}

// Ranked in some tens of microseconds, which is what a hop to the job thread and back takes.
const kShortScoreBytes = 2 ** 17;

/** Whether a selection is not worth another thread, as of a cache that is kept at its budget step by step. */
function isShort({ scores }: LayerScores): boolean {
  return readsHostMemory(scores.device) && scores.sizeBytes <= kShortScoreBytes;
}

/** Of the planned slots, how many are the last ones of every row; undefined: those that are protected anyway. */
function lastOf({ recent }: SelectPart, counts: readonly number[]): number | undefined {
  const least = Math.min(...counts);
  if (recent === "budget") return counts.every((count) => count === least) ? least : undefined;
  return typeof recent === "object" ? Math.floor(recent.share * least) : undefined;
}

/** The newer, the better. */
function ages({ scores }: LayerScores): Tensor {
  const [rows = 0, slots = 0] = scores.shape;
  const values = Float32Array.from({ length: rows * slots }, (_, i) => i % slots);
  return Tensor.from(scores.device, "f32", [rows, slots], values);
}
