import { cosineFactor, type CosineScheduleOptions } from "../budget/cosine-schedule.js";
import { argumentError } from "../errors.js";
import { observationWindow } from "../score/observation-window.js";
import { topK } from "../select/top-k.js";
import { prepareJob } from "./compression-job.js";
import type { KVCache } from "./kv-cache.js";
import type { StoreLayerInfo } from "./native-store.js";
import { scoreLayer } from "./score-layer.js";

/** Options of {@link rowPruner}. */
export interface RowPrunerOptions extends CosineScheduleOptions {
  /** Part of the prompt whose queries rank and which stays, in (0, 1]. Default 0.2. */
  readonly recentRatio?: number;
  /** Weight of the last query relative to the first. Default 1.2. */
  readonly distanceWeight?: number;
  /** First tokens of the cache that always stay. Default 4. */
  readonly sinks?: number;
  /** Rows before the recent ones up to which nothing is dropped, 0 or more. Default 64. */
  readonly minContext?: number;
}

/**
 * Says which rows of the residual stream go on to the next layer, for a runtime that lets them go
 * (`ForwardOptions.prune` of the example runtime): PyramidInfer as the paper has it, where deeper layers do not even
 * compute the keys of dropped tokens.
 *
 *   s[k]   = mean over query heads, and weighted over the recent queries q, of softmax(q K^T / sqrt(d))[k]
 *   stays:   the recent rows, and the best floor(context * rho_l) before them, sinks first
 *   rho_l  = decay + (1 - decay) * (cos(pi * l / L) + 1) / 2        every `interval` layers
 *
 * The cache has to record as many queries as are recent (`recordQueries`), at most 1024 of which rank, and must hold the
 * layer whole. The factors compound, so how much is left in the end follows from `decay`: 0.38 of the rows in the last of
 * 32 layers with 0.9.
 *
 * @source PyramidInfer, arXiv 2405.12532, section 3.3; defaults of its reference code for 7B models.
 *
 * Differs from the reference code: ties keep the earlier row, and the recent part is rounded up.
 *
 * Cost: two passes over a layer's keys with the recent queries. Not when the prompt is continued by a question that
 * needs what was dropped: no deeper layer has it.
 *
 * @returns for (layer, tokens that have a row): indices into `tokens` that stay, ascending; null for all
 * @throws {SpindleKVError} ERR_SPINDLEKV_ARGUMENT when an option is out of range; the function rejects with it when a layer
 *   does not hold its rows, and with ERR_SPINDLEKV_MISSING_INPUT when queries were not recorded
 * @example
 * ```ts
 * const cache = new KVCache(device, { ...shape, recordQueries: 1024 });
 * await model.forward(prompt, cache, { logits: "last", prune: rowPruner(cache) });
 * ```
 */
export function rowPruner(
  cache: KVCache,
  options: RowPrunerOptions = {},
): (layer: number, tokens: Int32Array) => Promise<Int32Array | null> {
  const { minContext = 64, recentRatio = 0.2, distanceWeight = 1.2 } = options;
  if (!Number.isInteger(minContext) || minContext < 0) {
    throw argumentError("rowPruner", "an integer of 0 or more", "minContext", minContext);
  }
  const { layers } = cache.options;
  cosineFactor(0, layers, options); // checks its options
  const select = topK({ sinks: options.sinks ?? 4 });
  const score = observationWindow({
    window: 1024,
    windowFraction: recentRatio,
    distanceWeight,
    norm: "window",
    pool: null,
    scope: "layer",
  });
  return async (layer, tokens) => {
    const factor = cosineFactor(layer, layers, options);
    const rows = tokens.length;
    const job = prepareJob(cache, select, score, layer + 1, undefined);
    const { heads } = job.infos[layer] as StoreLayerInfo;
    const held = heads[0]?.slots ?? 0;
    if (held < rows || heads.some((head) => head.slots !== held)) {
      throw argumentError(
        "rowPruner",
        `${rows} rows or more in every head`,
        `layer ${layer}`,
        heads.map((head) => head.slots),
      );
    }
    const earlier = held - rows; // slots of passes before this one: theirs is not to be said here
    const context = rows - Math.min(rows, job.recent);
    const sinks = Math.min(context, Math.max(0, job.sinks - earlier));
    const kept = Math.floor(context * factor);
    if (context <= minContext || kept >= context) return null;
    const { scores } = await scoreLayer(job, layer, []);
    using _ = scores;
    const values = ((await scores.read()) as Float32Array).subarray(earlier, held);
    const ranked = Array.from({ length: context - sinks }, (_, i) => sinks + i).sort(
      (a, b) => (values[b] as number) - (values[a] as number) || a - b,
    );
    const isKept = new Set(ranked.slice(0, Math.max(0, kept - sinks)));
    const stays = (row: number) => row < sinks || row >= context || isKept.has(row);
    return Int32Array.from(tokens.keys()).filter(stays);
  };
}
