/** From scores per query head to scores per ranking: pooling over neighbours, then the group. */
import { poolScores, reduceGroup } from "../ops/index.js";
import { Tensor } from "../tensor.js";
import type { LayerScores, ScoreInput } from "./method.js";

/** How scores per query head become a ranking. */
export interface ReduceOptions {
  readonly pool: {
    readonly kind: "mean" | "max";
    readonly kernel: number;
    readonly divisor: "kernel" | "valid";
  } | null;
  /** How the query heads of a KV head share one ranking; "unfold": each ranks for itself. */
  readonly group: "unfold" | "mean" | "max" | "sum";
  /** "layer": all KV heads of the layer share one ranking, by the mean over its query heads. Default "kv-head". */
  readonly scope?: "kv-head" | "layer";
}

/**
 * Pools over the ranked slots (the protected recent ones take no part), then reduces over the group, or over all
 * query heads of the layer.
 *
 * @param perHead [queryHeads, longest] f32; stays the caller's
 */
export async function reduceScores(
  input: ScoreInput,
  perHead: Tensor,
  { pool, group, scope = "kv-head" }: ReduceOptions,
): Promise<LayerScores> {
  const perKvHead = reduceGroups(input, perHead, pool, scope === "layer" ? "mean" : group);
  return scope === "layer" ? shareOverLayer(input, perKvHead) : perKvHead;
}

function reduceGroups(
  input: ScoreInput,
  perHead: Tensor,
  pool: ReduceOptions["pool"],
  group: ReduceOptions["group"],
): LayerScores {
  const { device, kvHeads, lengths, recent } = input;
  const perGroup = input.group;
  const longest = perHead.shape[1] as number;
  const queryHeads = kvHeads * perGroup;
  // Nothing is pooled and every row ranks for itself: the scores are what they are.
  if (pool === null && recent === 0 && perGroup === 1) {
    return { scores: perHead.view(), lengths: [...lengths], group: 1 };
  }
  const rowLengths = lengths.flatMap((length) => new Array<number>(perGroup).fill(length));
  const pooled = Tensor.zeros(device, "f32", [queryHeads, longest]);
  try {
    const ranked = rowLengths.map((length) => Math.max(0, length - recent));
    const kind = pool ?? { kind: "max" as const, kernel: 1, divisor: "kernel" as const };
    poolScores({ in: perHead, out: pooled, lengths: ranked, ...kind });
    if (group === "unfold") {
      return { scores: pooled, lengths: rowLengths, group: perGroup };
    }
    const reduced = Tensor.zeros(device, "f32", [kvHeads, longest]);
    try {
      reduceGroup({ in: pooled, out: reduced, group: perGroup, kind: group });
    } catch (error) {
      reduced.dispose();
      throw error;
    }
    pooled.dispose();
    return { scores: reduced, lengths: [...lengths], group: 1 };
  } catch (error) {
    pooled.dispose();
    throw error;
  }
}

/** One ranking for all KV heads: their mean, added up in float64, heads ascending. Heads hold the same slots. */
async function shareOverLayer(input: ScoreInput, perKvHead: LayerScores): Promise<LayerScores> {
  const { device, kvHeads } = input;
  const { scores, lengths } = perKvHead;
  try {
    const rows = (await scores.read()) as Float32Array;
    const slots = rows.length / kvHeads;
    const shared = new Float32Array(rows.length);
    for (let slot = 0; slot < slots; slot++) {
      let sum = 0;
      for (let head = 0; head < kvHeads; head++) sum += rows[head * slots + slot] as number;
      for (let head = 0; head < kvHeads; head++) shared[head * slots + slot] = sum / kvHeads;
    }
    return { scores: Tensor.from(device, "f32", [kvHeads, slots], shared), lengths, group: 1 };
  } finally {
    scores.dispose();
  }
}
