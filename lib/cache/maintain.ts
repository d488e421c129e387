/** What a method's schedule asks for while the model decodes. */
import { commitPlan } from "./commit-plan.js";
import {
  type CompressOptions,
  type CompressReport,
  compressCache,
  reportAfter,
  reportBefore,
} from "./compress.js";
import { type CompressionJob, prepareJob, throwIfAborted } from "./compression-job.js";
import type { KVCache } from "./kv-cache.js";
import {
  isMaintained,
  isWindowed,
  type LayerPlan,
  type LayerScores,
  type Method,
} from "./method.js";
import { meanPlan, sumOneOverRanks } from "./plan.js";
import { scoreLayer } from "./score-layer.js";

/**
 * Brings the cache back to its budget where it has outgrown it by what the schedule allows.
 *
 * @returns what was done; null when nothing was due
 */
export async function maintainCache(
  cache: KVCache,
  options: CompressOptions,
): Promise<CompressReport | null> {
  const { method, limits } = cache;
  if (limits === null) {
    return (await isFirstDue(cache)) ? await compressCache(cache, options) : null;
  }
  if (!isMaintained(method) || method.select === null) return null;
  const slack = slackOf(method);
  const due = cache.layers.filter((layer) =>
    layer.slots.some((slots, head) => slots > (limits[layer.index]?.[head] ?? 0) + slack),
  );
  if (due.length === 0) return null;
  throwIfAborted(options.signal);
  const score = method.stepScore ?? method.score;
  const job = {
    ...prepareJob(cache, method.select, score, cache.options.layers, options.signal),
    leavesGaps: mayLeaveGaps(cache.method),
  };
  const before = reportBefore(cache, cache.statsOf(job.infos));
  const scored: { layer: number; scores: LayerScores; plan: LayerPlan }[] = [];
  try {
    for (const { index: layer } of due) {
      const scores = await scoreLayer(job, layer, []);
      scored.push({ layer, scores, plan: planOf(job, scores, limits[layer] ?? []) });
      throwIfAborted(options.signal);
    }
    await commitPlan(job, scored, null, options.onProgress);
    const plan = meanPlan(scored.map((layer) => layer.plan));
    return reportAfter(cache, before, { thetas: null, trials: 0, plan });
  } finally {
    for (const { scores } of scored) scores.scores.dispose();
  }
}

/** Up to a page of dropped slots may stay, but not where a number of bytes was asked for. */
function mayLeaveGaps({ target }: Method): boolean {
  return target === null || !("bytes" in target);
}

/** Slots that a head may hold above its limit. */
function slackOf({ schedule }: Method): number {
  if (typeof schedule !== "object") return 0;
  return "every" in schedule ? schedule.every - 1 : schedule.overflow;
}

/** Ranked slots of each row, so that its head comes back to its limit. */
function planOf(job: CompressionJob, { lengths, group }: LayerScores, limits: readonly number[]) {
  return lengths.map((length, row) => {
    const limit = limits[Math.floor(row / group)] ?? 0;
    const ranked = Math.max(0, length - job.sinks - job.recent);
    return Math.min(ranked, Math.max(0, limit - job.sinks - job.recent));
  });
}

/** Whether a method that has not compressed yet should. */
async function isFirstDue(cache: KVCache): Promise<boolean> {
  const { method } = cache;
  const { target, schedule } = method;
  if (isWindowed(method)) {
    // With a target in tokens every append keeps the window already.
    return target !== null && !("tokens" in target) && !cache.isTrimmed && cache.tokens > 0;
  }
  // A cascade begins with the prompt, not after some part of it.
  if (!isMaintained(method) || schedule === "per-layer" || cache.tokens === 0) return false;
  const slack = slackOf(method);
  if (target !== null && "tokens" in target) {
    return cache.layers.some((layer) => Math.max(...layer.slots) > target.tokens + slack);
  }
  if (target === null || !("bytes" in target)) return true;
  return (await sumOneOverRanks(cache, cache.stats().bytes.total)) > target.bytes;
}
