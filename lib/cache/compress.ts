import { argumentError } from "../errors.js";
import { commitPlan, layerPlans } from "./commit-plan.js";
import { type CompressionJob, prepareJob, throwIfAborted } from "./compression-job.js";
import type { KVCache } from "./kv-cache.js";
import { LayerCovers } from "./layer-covers.js";
import {
  isMaintained,
  isWindowed,
  type LayerPlan,
  type LayerScores,
  statisticsOf,
} from "./method.js";
import { storeAddon } from "./native-store.js";
import { evidenceOf, meanPlan, plannerOf, sumOneOverRanks } from "./plan.js";
import { scoreLayer } from "./score-layer.js";
import { type Size, sizeOf, targetBytes } from "./size.js";

/** Options of `KVCache.compress`. */
export interface CompressOptions {
  /** Stops the call; it then rejects with ERR_SPINDLEKV_ABORTED and the signal's reason as cause. */
  readonly signal?: AbortSignal;
  /** Called with the share done, 0..1, ascending; the last call is 1. */
  readonly onProgress?: (done: number) => void;
  /**
   * Called with the scores that ranked a layer's slots, for inspection: [rows, slots] f32, a row per KV head, or per
   * query head where each ranks for itself. Protected recent slots have no score (0).
   */
  readonly onScores?: (layer: number, scores: Float32Array, rows: number) => void;
}

/** What `KVCache.compress` did. */
export interface CompressReport {
  readonly method: string;
  readonly tokens: number;
  /** Slots summed over layers and KV heads. */
  readonly slotsBefore: number;
  readonly slots: number;
  readonly bytesBefore: number;
  readonly bytes: number;
  /** Bytes of the same tokens in a native GQA f16 cache. */
  readonly nativeBytes: number;
  /** What the method's target comes to in bytes; null where it is in tokens or there is none. */
  readonly targetBytes: number | null;
  /** Whether any slot was dropped. */
  readonly hasEvicted: boolean;
  /** Similarity thresholds used; null without a codebook. */
  readonly thetas: { readonly k: number; readonly v: number } | null;
  /** Budgets tried. */
  readonly trials: number;
  /**
   * Ranked slots that each layer was given beside the protected ones, per row: the mean where its heads differ; null
   * without a budget.
   */
  readonly plan: readonly number[] | null;
}

function checkCompressOptions(options: CompressOptions): void {
  const op = "compress";
  if (typeof options !== "object" || options === null) {
    throw argumentError(op, "an object", "options", options);
  }
  const { signal, onProgress, onScores } = options;
  if (signal !== undefined && !(signal instanceof AbortSignal)) {
    throw argumentError(op, "an AbortSignal", "signal", signal);
  }
  for (const [name, callback] of Object.entries({ onProgress, onScores })) {
    if (callback === undefined || typeof callback === "function") continue;
    throw argumentError(op, "a function", name, callback);
  }
}

/** The report of a call that changed nothing. */
export function reportBefore(cache: KVCache, stats = cache.stats()): CompressReport {
  const { bytes, tokens, nativeBytes, perLayer } = stats;
  const slots = perLayer.reduce((sum, layer) => sum + layer.slots, 0);
  return {
    method: cache.method.id,
    tokens,
    slotsBefore: slots,
    slots,
    bytesBefore: bytes.total,
    bytes: bytes.total,
    nativeBytes,
    targetBytes: targetBytes(cache.method.target, nativeBytes),
    hasEvicted: false,
    thetas: null,
    trials: 0,
    plan: null,
  };
}

/** `before` brought up to what the cache holds now. */
export function reportAfter(
  cache: KVCache,
  before: CompressReport,
  { thetas, trials, plan }: Pick<CompressReport, "thetas" | "trials" | "plan">,
): CompressReport {
  const { bytes, perLayer } = cache.stats();
  const slots = perLayer.reduce((sum, layer) => sum + layer.slots, 0);
  const hasEvicted = slots < before.slotsBefore;
  return { ...before, slots, bytes: bytes.total, hasEvicted, thetas, trials, plan };
}

/** Runs the method's parts: score, budget, select, encode; commits at the very end. */
export async function compressCache(
  cache: KVCache,
  options: CompressOptions,
): Promise<CompressReport> {
  checkCompressOptions(options);
  const { signal } = options;
  throwIfAborted(signal);
  const before = reportBefore(cache);
  const { method } = cache;
  const { budget, select } = method;
  const isLeftAlone =
    budget === null ||
    select === null ||
    before.slotsBefore === 0 ||
    before.tokens < method.minTokens ||
    cache.cascade.isDone(before.tokens);
  if (isLeftAlone) {
    options.onProgress?.(1);
    return before;
  }
  const { layers } = cache.options;
  const job = prepareJob(cache, select, method.score, layers, signal);
  const scores: LayerScores[] = [];
  try {
    const statistics = statisticsOf(budget);
    for (let layer = 0; layer < layers; layer++) {
      const layerScores = await scoreLayer(job, layer, statistics);
      scores.push(layerScores);
      if (options.onScores !== undefined) {
        const values = (await layerScores.scores.read()) as Float32Array;
        options.onScores(layer, values, layerScores.lengths.length);
      }
      throwIfAborted(signal);
      options.onProgress?.((0.2 * (layer + 1)) / layers);
    }
    const evidence = scores.map((layer) => evidenceOf(job, layer));
    const planner = await plannerOf(job, budget, evidence, scores[0]?.lengths.length ?? 0);
    const nativeBytes = await sumOneOverRanks(cache, before.nativeBytes);
    using covers = new LayerCovers();
    const size = await sizeOf(job, budget, scores, planner, nativeBytes, covers);
    options.onProgress?.(0.6);
    const plan = await planner(size.total);
    await checkTotal(job, plan, size.total);
    const onProgress = (done: number) => options.onProgress?.(0.6 + 0.39 * done);
    await commitPlan(job, layerPlans(scores, plan), size.thetas, onProgress, covers);
    cache.configure(policiesAfter(job, size));
    if (!isMaintained(method)) storeAddon().storeReleaseQueries(cache);
    const { thetas, trials } = size;
    const report = reportAfter(cache, before, { thetas, trials, plan: meanPlan(plan) });
    if (isMaintained(method)) {
      // All ranks are limited from now on, or none.
      const evicting = await sumOneOverRanks(cache, report.hasEvicted ? 1 : 0);
      setLimits(cache, { hasEvicted: evicting > 0 });
    }
    options.onProgress?.(1);
    return report;
  } finally {
    for (const layer of scores) layer.scores.dispose();
  }
}

/** In tokens, a budget that must give more than the target has says so. */
async function checkTotal(
  job: CompressionJob,
  plan: readonly LayerPlan[],
  total: number,
): Promise<void> {
  const { target, budget } = job.method;
  if (target === null || !("tokens" in target)) return;
  const own = meanPlan(plan).reduce((sum, slots) => sum + slots, 0);
  const given = (await sumOneOverRanks(job.cache, own)) / (job.cache.options.ranks?.size ?? 1);
  if (given <= total + 1e-6) return;
  const least = Math.ceil(given / job.layers) + job.sinks + job.recent;
  throw argumentError(
    "compress",
    `at least the ${least} slots a head that budget ${budget?.id} keeps`,
    "target.tokens",
    target.tokens,
  );
}

/** A maintained method holds from now on what it holds now; tokens or bytes that were not reached yet stay open. */
export function setLimits(
  cache: KVCache,
  { hasEvicted }: Pick<CompressReport, "hasEvicted">,
): void {
  const { target } = cache.method;
  if (!isMaintained(cache.method)) return;
  if (!hasEvicted && target !== null && !("keep" in target)) return;
  cache.limits = cache.stats().perLayer.map(({ heads }) => heads.map(({ slots }) => slots));
}

/** What holds from now on: the window of positional methods, insertion into codebooks. */
function policiesAfter(
  { method, select, infos, recent }: CompressionJob,
  { total, thetas }: Size,
): Parameters<KVCache["configure"]>[0] {
  if (isWindowed(method)) {
    const { target } = method;
    // A prompt shorter than the window leaves room for what is decoded.
    const last =
      target !== null && "tokens" in target
        ? target.tokens - select.sinks
        : Math.max(1, Math.floor(total / infos.length));
    return { trim: { sinks: select.sinks, recent: last } };
  }
  const { codec } = method;
  if (codec.id !== "codebook" || thetas === null || codec.insertInterval === 0) return {};
  const insert = {
    recent,
    interval: codec.insertInterval,
    thetaK: thetas.k,
    thetaV: thetas.v,
    codewords: codec.codewords,
  };
  return { insert };
}
