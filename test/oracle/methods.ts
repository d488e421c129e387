// Oracle of what a method keeps of one layer, from the papers' formulas in float64 on dense rows:
//   StreamingLLM: the first `sinks` and the last slots (sliding window: no sinks);
//   SnapKV family: S[h,k] = sum over the last w queries of softmax(Q K^T / sqrt(d))[h,q,k], normalised, pooled along
//   k < n - w, reduced over the group, top-k per head, and the last w slots.
import { type PoolCase, poolScoresOracle } from "./pool-scores.ts";
import { reduceGroupOracle } from "./reduce-group.ts";
import { type Selection, selectTopkOracle } from "./select-topk.ts";
import { type QueryValues, slotsOf } from "./types.ts";
import { type WindowNorm, windowScoresOracle } from "./window-scores.ts";

/** First `sinks` and last `recent` of n slots. */
export function sinksAndRecentKept(n: number, sinks: number, recent: number): number[] {
  return Array.from({ length: n }, (_, i) => i).filter((i) => i < sinks || i >= n - recent);
}

export interface WindowMethod {
  readonly norm?: WindowNorm;
  readonly pool?: Pick<PoolCase, "kernel" | "kind" | "divisor">;
  readonly group: "unfold" | "mean" | "max" | "sum";
  readonly sinks?: number;
  /** Ranked slots a head keeps beside the protected ones. */
  readonly k: number;
}

/** Scores of a layer's slots; `values` holds the window's queries and the slots before compression. */
export function windowMethodScores(values: QueryValues, method: WindowMethod): Float64Array[] {
  const window = values.queries;
  const { sum } = windowScoresOracle(values, method.norm ?? "sum");
  const ranked = sum.map((row) => row.slice(0, Math.max(0, row.length - window)));
  const pooled =
    method.pool === undefined
      ? ranked
      : poolScoresOracle({ rows: ranked as never[], ...method.pool });
  const reduced =
    method.group === "unfold"
      ? pooled
      : reduceGroupOracle({
          rows: pooled as never[],
          group: values.group,
          kind: method.group,
        });
  const rows = method.group === "unfold" ? values.group : 1;
  return reduced.map((row, r) => {
    const all = new Float64Array(slotsOf(values.heads[Math.floor(r / rows)]));
    all.set(row);
    return all;
  });
}

/** Kept slots per KV head, with the query heads that chose them for "unfold". */
export function windowMethodKept(values: QueryValues, method: WindowMethod): Selection[] {
  const rows = windowMethodScores(values, method);
  return selectTopkOracle({
    rows: rows as never[],
    k: rows.map(() => method.k),
    sinks: method.sinks ?? 0,
    recent: values.queries,
    unionGroup: method.group === "unfold" ? values.group : 1,
  });
}
