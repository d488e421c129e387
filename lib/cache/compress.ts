import { argumentError, spindleError } from "../errors.js";
import { poolScores, reduceGroup } from "../ops/index.js";
import { Tensor } from "../tensor.js";
import { searchBudget } from "./budget-search.js";
import type { KVCache } from "./kv-cache.js";
import type { AttentionScore, BudgetTarget, CodebookCodec, Method, SelectPart } from "./method.js";
import { type StoreLayerInfo, storeAddon } from "./native-store.js";
import { plannedBytes, rewrite } from "./rewrite.js";
import type { LayerScores } from "./selection.js";

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
  /** Ranked slots per row that each layer was given beside the protected ones; null without a target. */
  readonly plan: readonly number[] | null;
}

/** What the steps of one compression share. */
export interface CompressionJob {
  readonly cache: KVCache;
  readonly method: Method;
  readonly select: SelectPart;
  readonly signal: AbortSignal | undefined;
  readonly infos: readonly StoreLayerInfo[];
  /** Protected slots of a head: the first and, unless the budget says so itself, the last ones. */
  readonly sinks: number;
  readonly recent: number;
  /** Ranked slots of the longest head. */
  readonly context: number;
}

export function throwIfAborted(signal: AbortSignal | undefined): void {
  if (signal?.aborted !== true) return;
  throw spindleError(
    "ERR_SPINDLEKV_ABORTED",
    "compress",
    "compress: expected to finish, got aborted",
    signal.reason,
  );
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

/** Runs the method's parts: score, budget, select, encode; commits at the very end. */
export async function compressCache(
  cache: KVCache,
  options: CompressOptions,
): Promise<CompressReport> {
  checkCompressOptions(options);
  const { signal } = options;
  throwIfAborted(signal);
  const before = cache.stats();
  const { method } = cache;
  const report = {
    method: method.id,
    tokens: before.tokens,
    slotsBefore: before.perLayer.reduce((sum, layer) => sum + layer.slots, 0),
    bytesBefore: before.bytes.total,
    nativeBytes: before.nativeBytes,
  };
  const unchanged: CompressReport = {
    ...report,
    slots: report.slotsBefore,
    bytes: report.bytesBefore,
    targetBytes: targetBytes(method.target, report.nativeBytes),
    hasEvicted: false,
    thetas: null,
    trials: 0,
    plan: null,
  };
  if (method.target === null || method.select === null || report.slotsBefore === 0) {
    options.onProgress?.(1);
    return unchanged;
  }
  const job = prepare(cache, method, method.select, signal);
  const layers = job.infos.length;
  const scores: LayerScores[] = [];
  try {
    for (let layer = 0; layer < layers; layer++) {
      const layerScores = await scoreLayer(job, layer);
      scores.push(layerScores);
      if (options.onScores !== undefined) {
        const values = (await layerScores.scores.read()) as Float32Array;
        options.onScores(layer, values, layerScores.lengths.length);
      }
      throwIfAborted(signal);
      options.onProgress?.((0.2 * (layer + 1)) / layers);
    }
    const budget = method.budget;
    if (budget === null) throw argumentError("compress", "a budget", "method", method.id);
    const shape = { layers, context: job.context, guarded: job.sinks + job.recent };
    const goal = unchanged.targetBytes;
    const codec = method.codec;
    let thetas = codec.id === "codebook" ? { k: codec.thetaK, v: codec.thetaV } : null;
    let total: number;
    let trials = 0;
    if (goal === null) {
      // In tokens: the sum is exact by construction, whatever it takes in bytes.
      total = rankedTotal(job, method.target);
    } else {
      const found = await searchBudget(goal, layers * job.context, async (candidate) => {
        throwIfAborted(signal);
        return plannedBytes(job, scores, budget.plan(candidate, shape), thetas);
      });
      if (found === null) {
        const least = await plannedBytes(job, scores, budget.plan(0, shape), thetas);
        throw argumentError(
          "compress",
          `at least the ${least} bytes of the protected slots (keep ${(least / report.nativeBytes).toFixed(4)})`,
          "target",
          goal,
        );
      }
      total = found.trial.total;
      trials = found.evaluations;
      if (codec.id === "codebook" && codec.theta === "auto" && total === layers * job.context) {
        const raised = await raiseThetas(job, scores, budget.plan(total, shape), codec, goal);
        thetas = raised.thetas;
        trials += raised.trials;
      }
    }
    options.onProgress?.(0.6);
    const plan = budget.plan(total, shape);
    const addon = storeAddon();
    const draft = {};
    addon.draftCreate(draft, cache);
    try {
      await rewrite(job, scores, plan, thetas, draft, (done) =>
        options.onProgress?.(0.6 + 0.39 * done),
      );
      throwIfAborted(signal);
      addon.draftCommit(draft);
    } finally {
      addon.draftDispose(draft);
    }
    cache.forgetSimilarity();
    cache.configure(policiesAfter(job, total, thetas));
    addon.storeReleaseQueries(cache);
    const after = cache.stats();
    const slots = after.perLayer.reduce((sum, layer) => sum + layer.slots, 0);
    options.onProgress?.(1);
    return {
      ...unchanged,
      slots,
      bytes: after.bytes.total,
      hasEvicted: slots < report.slotsBefore,
      thetas,
      trials,
      plan,
    };
  } finally {
    for (const layer of scores) layer.scores.dispose();
  }
}

function targetBytes(target: BudgetTarget | null, nativeBytes: number): number | null {
  if (target === null || "tokens" in target) return null;
  return "bytes" in target ? target.bytes : Math.floor(target.keep * nativeBytes);
}

function prepare(
  cache: KVCache,
  method: Method,
  select: SelectPart,
  signal: AbortSignal | undefined,
): CompressionJob {
  const addon = storeAddon();
  const infos = cache.layers.map((layer) => addon.storeDescribe(cache, layer.index));
  const positions = infos.map((info) => info.position);
  if (positions.some((position) => position !== positions[0])) {
    throw argumentError("compress", "equally many tokens in every layer", "cache", positions);
  }
  const longest = Math.max(...infos.flatMap((info) => info.heads.map((head) => head.slots)));
  const window = method.score?.source === "attention" ? method.score.window : 0;
  const recent = Math.min(
    longest,
    select.recent === "budget"
      ? 0
      : select.recent === "window"
        ? window
        : Math.max(select.recent, window),
  );
  const sinks = Math.min(select.sinks, longest - recent);
  return { cache, method, select, signal, infos, sinks, recent, context: longest - sinks - recent };
}

/** Ranked slots per KV head, summed over layers, of a target in tokens. */
function rankedTotal(job: CompressionJob, target: BudgetTarget): number {
  const tokens = "tokens" in target ? target.tokens : 0;
  const guarded = job.sinks + job.recent;
  if (tokens < guarded && tokens < job.context + guarded) {
    throw argumentError(
      "compress",
      `at least the ${guarded} protected slots`,
      "target.tokens",
      tokens,
    );
  }
  return job.infos.length * Math.min(job.context, tokens - guarded);
}

/** Scores of a layer's slots, one row per KV head, or per query head for "unfold". */
async function scoreLayer(job: CompressionJob, layer: number): Promise<LayerScores> {
  const { cache, method, infos } = job;
  const { device } = cache;
  const { kvHeads, queryHeads } = cache.options;
  const info = infos[layer] as StoreLayerInfo;
  const lengths = info.heads.map((head) => head.slots);
  const longest = Math.max(...lengths, 1);
  const score = method.score;
  if (score === null || score.source === "position") {
    // The newer, the better.
    const ages = Float32Array.from({ length: kvHeads * longest }, (_, i) => i % longest);
    return { scores: Tensor.from(device, "f32", [kvHeads, longest], ages), lengths, group: 1 };
  }
  const group = queryHeads / kvHeads;
  const perQueryHead = lengths.flatMap((length) => new Array<number>(group).fill(length));
  // A prompt shorter than the window is protected whole: nothing is ranked.
  if (job.context === 0) {
    return score.group === "unfold"
      ? { scores: Tensor.zeros(device, "f32", [queryHeads, longest]), lengths: perQueryHead, group }
      : { scores: Tensor.zeros(device, "f32", [kvHeads, longest]), lengths, group: 1 };
  }
  if (info.recordedQueries < score.window) {
    throw spindleError(
      "ERR_SPINDLEKV_MISSING_INPUT",
      "compress",
      `compress: expected the queries of the last ${score.window} tokens for score ${score.id}, ` +
        `got ${info.recordedQueries} recorded by attend in layer ${layer}`,
    );
  }
  using raw = Tensor.zeros(device, "f32", [queryHeads, longest]);
  using nonfinite = Tensor.zeros(device, "i32", [1]);
  await storeAddon().storeWindowScores(cache, {
    layer,
    window: score.window,
    norm: score.norm,
    scale: cache.scale,
    sum: raw,
    nonfinite,
  });
  const bad = Number((await nonfinite.read())[0]);
  if (bad > 0) {
    throw spindleError(
      "ERR_SPINDLEKV_NON_FINITE",
      "compress",
      `compress: expected finite keys and queries for score ${score.id}, got ${bad} logits of layer ${layer} that are not`,
    );
  }
  return reduceScores(score, raw, lengths, perQueryHead, job.recent, group);
}

/** Pools over the ranked slots (the protected recent ones do not take part), then over the group. */
function reduceScores(
  score: AttentionScore,
  raw: Tensor,
  lengths: readonly number[],
  perQueryHead: readonly number[],
  recent: number,
  group: number,
): LayerScores {
  const { device, shape } = raw;
  const longest = shape[1] as number;
  const pooled = Tensor.zeros(device, "f32", [perQueryHead.length, longest]);
  try {
    const ranked = perQueryHead.map((length) => Math.max(0, length - recent));
    const pool = score.pool ?? { kind: "max" as const, kernel: 1, divisor: "kernel" as const };
    poolScores({ in: raw, out: pooled, lengths: ranked, ...pool });
    if (score.group === "unfold") return { scores: pooled, lengths: [...perQueryHead], group };
    const reduced = Tensor.zeros(device, "f32", [lengths.length, longest]);
    reduceGroup({ in: pooled, out: reduced, group, kind: score.group });
    pooled.dispose();
    return { scores: reduced, lengths: [...lengths], group: 1 };
  } catch (error) {
    pooled.dispose();
    throw error;
  }
}

/** Spends what is left of the budget on higher thetas, both raised by the same share of their distance to 1. */
async function raiseThetas(
  job: CompressionJob,
  scores: readonly LayerScores[],
  plan: readonly number[],
  codec: CodebookCodec,
  goal: number,
): Promise<{ thetas: { k: number; v: number }; trials: number }> {
  const at = (share: number) => ({
    k: 1 - (1 - codec.thetaK) * (1 - share),
    v: 1 - (1 - codec.thetaV) * (1 - share),
  });
  let low = 0;
  let high = 1;
  const rounds = 6; // leaves 1/64 of the way unspent
  for (let round = 0; round < rounds; round++) {
    throwIfAborted(job.signal);
    const middle = (low + high) / 2;
    if ((await plannedBytes(job, scores, plan, at(middle))) <= goal) low = middle;
    else high = middle;
  }
  return { thetas: at(low), trials: rounds };
}

/** What holds from now on: the window of positional methods, insertion into codebooks. */
function policiesAfter(
  job: CompressionJob,
  total: number,
  thetas: { k: number; v: number } | null,
): Parameters<KVCache["configure"]>[0] {
  const { method, select, infos } = job;
  if (method.schedule === "every-step") {
    const { target } = method;
    // A prompt shorter than the window leaves room for what is decoded.
    const recent =
      target !== null && "tokens" in target
        ? target.tokens - select.sinks
        : Math.max(1, Math.floor(total / infos.length));
    return { trim: { sinks: select.sinks, recent } };
  }
  if (method.codec.id !== "codebook" || thetas === null || method.codec.insertInterval === 0)
    return {};
  const insert = {
    recent: job.recent,
    interval: method.codec.insertInterval,
    thetaK: thetas.k,
    thetaV: thetas.v,
    codewords: method.codec.codewords,
  };
  return { insert };
}
