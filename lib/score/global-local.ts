import type { LayerScores, ScoreInput, ScorePart } from "../cache/method.js";
import { reduceScores } from "../cache/reduce-scores.js";
import { argumentError } from "../errors.js";
import { reduceGroup } from "../ops/index.js";
import { Tensor } from "../tensor.js";

/** Options of {@link globalLocal}. */
export interface GlobalLocalOptions {
  /** Last queries of the local score, 1..1024. Default 32. */
  readonly window?: number;
  /** How the aligned global score and the local one become one: "sum" (default) or the larger ("max"). */
  readonly combine?: "sum" | "max";
  /** Max or mean over so many neighbouring slots; null (default): none. */
  readonly pool?: { readonly kind: "mean" | "max"; readonly kernel: number } | null;
}

/**
 * Ranks a slot by the attention that it ever got and by that of the last queries, brought to one magnitude.
 *
 *   s_glo = attention of all queries so far, s_loc = that of the last `window` ones; both summed over the group
 *   s[k]  = s_glo[k] * mean(s_loc) / mean(s_glo) + s_loc[k]      means over the ranked slots of the head
 *
 * @source EMS, arXiv 2412.08521: the global-local score. Formula of the mean alignment and its sum are this project's
 * reading of abstract and reviews; a summary of the paper has the larger of the two (`combine: "max"`).
 *
 * Cost: the sums that attend adds up (4 bytes a slot and head), and a window as for `observationWindow`. The sums are not
 * bit-equal on every backend. Not where one of the two alone does.
 *
 * @throws {SpindleKVError} ERR_SPINDLEKV_ARGUMENT when an option is out of range
 */
export function globalLocal(options: GlobalLocalOptions = {}): ScorePart {
  const { window = 32, combine = "sum", pool = null } = options;
  const op = "globalLocal";
  if (!Number.isInteger(window) || window < 1 || window > 1024) {
    throw argumentError(op, "an integer in [1, 1024]", "window", window);
  }
  if (combine !== "sum" && combine !== "max") {
    throw argumentError(op, '"sum" or "max"', "combine", combine);
  }
  if (pool !== null && pool.kind !== "mean" && pool.kind !== "max") {
    throw argumentError(op, '"mean" or "max"', "pool.kind", pool.kind);
  }
  const kernel = pool?.kernel ?? 1;
  if (!Number.isInteger(kernel) || kernel < 1 || kernel > 1023 || kernel % 2 === 0) {
    throw argumentError(op, "an odd integer in [1, 1023]", "pool.kernel", kernel);
  }
  const kind = pool === null ? null : Object.freeze({ kind: pool.kind, kernel });
  return Object.freeze({
    id: "global-local",
    source: "sums",
    needs: Object.freeze(["keys", "queries", "attention sums"] as const),
    options: Object.freeze({ window, combine, pool: kind }),
    window,
    sums: "kv-head",
    rank: (input) => rankByBoth(input, window, combine, kind),
  } satisfies ScorePart);
}

async function rankByBoth(
  input: ScoreInput,
  asked: number,
  combine: "sum" | "max",
  pool: (GlobalLocalOptions["pool"] & object) | null,
): Promise<LayerScores> {
  const { device, kvHeads, group, lengths, longest, sinks, recent, tokens } = input;
  using sums = input.sums();
  const global = await sums.read();
  using seen = await input.window({ window: Math.min(asked, tokens) });
  using local = Tensor.zeros(device, "f32", [kvHeads, longest]);
  reduceGroup({ in: seen.sum, out: local, group, kind: "sum" });
  const scores = ((await local.read()) as Float32Array).slice();
  lengths.forEach((length, head) => {
    const first = head * longest;
    const ranked = [first + sinks, first + Math.max(sinks, length - recent)] as const;
    const whole = sumOf(global.subarray(...ranked));
    const align = whole > 0 ? sumOf(scores.subarray(...ranked)) / whole : 0;
    for (let slot = first; slot < first + length; slot++) {
      const aligned = (global[slot] as number) * align;
      const own = scores[slot] as number;
      scores[slot] = combine === "sum" ? aligned + own : Math.max(aligned, own);
    }
  });
  using combined = Tensor.from(device, "f32", [kvHeads, longest], scores);
  const reduction = {
    pool: pool && { ...pool, divisor: "kernel" as const },
    group: "sum" as const,
  };
  return await reduceScores({ ...input, group: 1 }, combined, reduction);
}

function sumOf(values: Float32Array): number {
  return values.reduce((sum, value) => sum + value, 0);
}
