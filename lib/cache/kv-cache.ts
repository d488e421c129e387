import type { Device } from "../device.js";
import { argumentError, SpindleKVError, spindleError } from "../errors.js";
import type { AsyncOptions } from "../jobs.js";
import { full } from "../methods/full.js";
import {
  checkMethod,
  checkMethodFits,
  checkOptions,
  type ForkOptions,
  type KVCacheOptions,
} from "./cache-options.js";
import { type CompressOptions, type CompressReport, compressCache } from "./compress.js";
import { AttentionSums } from "./attention-sums.js";
import { Cascade } from "./cascade.js";
import { HiddenCosine } from "./hidden-cosine.js";
import { LayerCache } from "./layer-cache.js";
import { maintainCache } from "./maintain.js";
import { isWindowed, type Method, needsPreRopeKeys, queriesOf, sumsOf } from "./method.js";
import {
  describeLayer,
  type StoreLayerInfo,
  type StorePolicies,
  storeAddon,
} from "./native-store.js";
import { PagePool } from "./page-pool.js";
import { SimilarityMemo } from "./similarity-memo.js";
import type { Rows } from "./staging.js";
import { runStep, runStepAsync, type ScoreSums, type StepInput, tokensOf } from "./step.js";
import { type CacheStats, sumParts } from "./stats.js";

/** Parameters of {@link KVCache.step}: rows as `append` and `attend` take them, with the layers in front. */
export interface StepParams {
  /** Keys `[layers, kvHeads, tokens, headDim]`, before RoPE if the cache has `rope`. */
  readonly k: Rows;
  /** Values, alike. */
  readonly v: Rows;
  /** Queries `[layers, queryHeads, tokens, headDim]`, before RoPE if the cache has `rope`. */
  readonly q: Rows;
  /** Result, shape of q; a Tensor has the dtype of q. */
  readonly out: Rows;
  /** Number of tokens. Default: axis 2 of a Tensor, or the length of the array. */
  readonly tokens?: number | undefined;
  /** `sum` is f32 `[layers, rows, slots]`, or more slots: with room for the tokens that are appended. */
  readonly scores?: ScoreSums | undefined;
}

/**
 * The KV cache of one sequence: `append` and `attend` per layer inside the runtime's forward pass, `compress`
 * by the method when the prompt is in.
 *
 * Not thread-safe; calls other than `stats` fail with ERR_SPINDLEKV_BUSY while `compress` runs.
 *
 * @example
 * ```ts
 * import { KVCache, openDevice, spindleKV } from "spindlekv";
 *
 * const device = await openDevice();
 * using cache = new KVCache(device, {
 *   layers: 2, queryHeads: 8, kvHeads: 2, headDim: 64,
 *   rope: { theta: 10_000, style: "norm" },
 *   method: spindleKV({ keep: 0.2 }),
 * });
 * const tokens = 300;
 * const k = new Float32Array(2 * tokens * 64).fill(0.1);
 * const q = new Float32Array(8 * tokens * 64).fill(0.1);
 * const out = new Float32Array(q.length);
 * for (const layer of cache.layers) {
 *   layer.append(k, k, tokens);
 *   layer.attend(q, out, tokens);
 * }
 * await cache.compress();
 * console.log(cache.stats().ratio);
 * ```
 */
export class KVCache {
  readonly device: Device;
  readonly method: Method;
  readonly options: KVCacheOptions;
  readonly pool: PagePool;
  readonly layers: readonly LayerCache[];
  readonly scale: number;
  /** @internal What native code knows the cache by. */
  readonly handle: number;
  /** @internal */
  similarity = new SimilarityMemo();
  #isCompressing = false;
  #isDisposed = false;
  #policies: StorePolicies = {};
  #sums: AttentionSums | undefined;
  /** @internal Slots that each head may hold from now on, of a method that is maintained; null: not yet known. */
  limits: readonly (readonly number[])[] | null = null;
  /** @internal */
  readonly cascade = new Cascade();
  /** @internal What the runtime showed of each layer's hidden states. */
  readonly hiddenCosines: readonly HiddenCosine[];
  /** A pool made by this cache or the one it was forked from; the last of them disposes it. */
  readonly #ownPool: { owners: number } | undefined;

  /**
   * @throws {SpindleKVError} ERR_SPINDLEKV_ARGUMENT when an option is out of range
   * @throws {SpindleKVError} ERR_SPINDLEKV_MISSING_INPUT when the method needs keys before RoPE and `rope` is absent
   */
  constructor(device: Device, options: KVCacheOptions);
  /** @internal A fork of `source`. */
  constructor(device: Device, options: KVCacheOptions, source: KVCache);
  constructor(device: Device, options: KVCacheOptions, source?: KVCache) {
    checkOptions(options);
    const method = options.method ?? full();
    const { queryHeads, kvHeads, headDim } = options;
    checkMethodFits(method, options);
    // A fork goes on under the same policies; with another method it starts under that one's.
    const policies = source?.method === method ? source.#policies : initialPolicies(method);
    this.device = device;
    this.method = method;
    this.options = options;
    this.scale = options.scale ?? 1 / Math.sqrt(headDim);
    this.pool = source?.pool ?? options.pool ?? new PagePool(device);
    if (source !== undefined) {
      this.handle = storeAddon().storeFork(this, source);
      this.#ownPool = source.#ownPool;
    } else {
      this.#ownPool = options.pool === undefined ? { owners: 0 } : undefined;
      if (this.pool.device !== device) {
        throw spindleError(
          "ERR_SPINDLEKV_WRONG_DEVICE",
          "KVCache",
          "KVCache: expected a pool on the cache's device for pool, got one on another",
        );
      }
      this.handle = storeAddon().storeCreate(this, this.pool, {
        layers: options.layers,
        kvHeads,
        group: queryHeads / kvHeads,
        headDim,
        dtype: options.dtype ?? "f16",
        pageSlots: options.pageSlots ?? 64,
        rotateKeys: false,
        reindex: false,
        recordQueries: 0,
        ...(options.rope === undefined
          ? {}
          : { rope: { ...options.rope, nRot: options.rope.nRot ?? headDim } }),
      });
    }
    if (this.#ownPool !== undefined) this.#ownPool.owners += 1;
    this.configure(policies);
    this.hiddenCosines = Object.freeze(
      Array.from({ length: options.layers }, (_, layer) =>
        source === undefined ? new HiddenCosine() : source.hiddenCosines[layer].copy(),
      ),
    );
    if (source?.method === method) this.limits = source.limits;
    this.#sums = this.#startSums(source);
    this.layers = Object.freeze(
      Array.from({ length: options.layers }, (_, index) => new LayerCache(this, index)),
    );
  }

  /** @internal Key storage and recording by the method, with the given policies. */
  configure(policies: StorePolicies): void {
    this.#policies = policies;
    const { method, options } = this;
    storeAddon().storeConfigure(this, {
      rotateKeys:
        options.rope !== undefined && !needsPreRopeKeys(method) && options.preRopeKeys !== true,
      reindex: method.positions === "reindexed",
      recordQueries: Math.max(queriesOf(method), options.recordQueries ?? 0),
      ...policies,
    });
  }

  /** Sums as far as the method needs them; those of a source go on where they are of the same kind. */
  #startSums(source: KVCache | undefined): AttentionSums | undefined {
    const { method, options, device } = this;
    const needed = sumsOf(method);
    const mode = needed === "none" ? options.accumulateScores : needed;
    if (mode === undefined) return undefined;
    const { layers, queryHeads, kvHeads } = options;
    const old = source?.sums;
    if (old?.mode === mode) return old.copy();
    if (source !== undefined && source.tokens > 0) {
      throw spindleError(
        "ERR_SPINDLEKV_MISSING_INPUT",
        "fork",
        `fork: expected sums of attention per ${mode} for method ${method.id}, ` +
          `got ${old === undefined ? "none" : `sums per ${old.mode}`} (set accumulateScores)`,
      );
    }
    const rows = mode === "query-head" ? queryHeads : kvHeads;
    return new AttentionSums(device, { layers, kvHeads, rows }, mode);
  }

  /** @internal Sums of attention that attend adds to. */
  get sums(): AttentionSums | undefined {
    return this.#sums;
  }

  /**
   * @internal Where attend adds what the method's scorer reads.
   *
   * @param layer -1: all layers
   * @param more slots that the same call appends
   * @throws {SpindleKVError} ERR_SPINDLEKV_ARGUMENT where the caller has sums of its own in mind
   */
  sumsFor(
    op: string,
    layer: number,
    more: number,
    own: ScoreSums | undefined,
  ): ScoreSums | undefined {
    const sums = this.#sums;
    if (sums === undefined) return own;
    if (own !== undefined) {
      throw argumentError(op, `none: method ${this.method.id} adds up its own`, "scores", own);
    }
    const layers = layer < 0 ? this.layers : this.layers.slice(layer, layer + 1);
    sums.reserve(more + Math.max(0, ...layers.flatMap((each) => each.slots)));
    return { sum: sums.target(layer), mode: sums.mode };
  }

  /** @internal Whether appends keep a window of last slots. */
  get isTrimmed(): boolean {
    return this.#policies.trim !== undefined;
  }

  /** Tokens appended so far (to the first layer). */
  get tokens(): number {
    return storeAddon().storePosition(this, 0);
  }

  /**
   * A second cache that continues from here. Pages are shared until either side writes to them; a prefix shared
   * by several forks is stored once.
   *
   * @param options another method for the fork
   * @returns a cache that the caller disposes
   * @throws {SpindleKVError} ERR_SPINDLEKV_BUSY while `compress` runs
   * @throws {SpindleKVError} ERR_SPINDLEKV_MISSING_INPUT when the method needs keys before RoPE and they are stored rotated
   */
  fork(options: ForkOptions = {}): KVCache {
    this.assertIdle("fork");
    checkMethod("fork", options.method);
    const method = options.method ?? this.method;
    if (needsPreRopeKeys(method) && this.#hasRotatedKeys()) {
      throw spindleError(
        "ERR_SPINDLEKV_MISSING_INPUT",
        "fork",
        `fork: expected keys stored before RoPE for method ${method.id}, got keys stored after it (set preRopeKeys)`,
      );
    }
    const preRopeKeys =
      options.preRopeKeys ?? (options.method === undefined && this.options.preRopeKeys === true);
    const { accumulateScores, ...shared } = this.options;
    const goesOn = options.method === undefined && accumulateScores !== undefined;
    const copyOptions = {
      ...shared,
      ...(goesOn ? { accumulateScores } : {}),
      method,
      preRopeKeys,
    };
    const copy = new KVCache(this.device, copyOptions, this);
    copy.similarity.release();
    copy.similarity = this.similarity.retain();
    return copy;
  }

  #hasRotatedKeys(): boolean {
    return this.describe().some((layer) => layer.heads.some((head) => head.hasRotatedKeys));
  }

  /**
   * Appends to and attends over all layers in one native call, for runtimes that have every layer's inputs at hand:
   * the same as `append` and `attend` of one layer after the other, but all layers change or none.
   *
   * @returns nothing when the result is there or enqueued; a promise when a CUDA result is read into a Float32Array
   * @throws {SpindleKVError} ERR_SPINDLEKV_ARGUMENT on a wrong shape, ERR_SPINDLEKV_OUT_OF_MEMORY,
   *   ERR_SPINDLEKV_BUSY while the cache is compressed or in an asynchronous step; the cache is then as before
   * @example
   * ```ts
   * cache.step({ k, v, q, out }); // [layers, kvHeads or queryHeads, tokens, headDim]
   * ```
   */
  step(params: StepParams): void | Promise<void> {
    return runStep("step", [this.#stepInput(params)], false);
  }

  /**
   * {@link step} off the event loop; resolves when the device is done. Argument errors reject. Until then every other
   * call on the cache fails with ERR_SPINDLEKV_BUSY.
   *
   * @throws {SpindleKVError} as {@link step}, and ERR_SPINDLEKV_ABORTED when `options.signal` aborted it: the cache is
   *   then as before, and what `out` holds means nothing
   */
  async stepAsync(params: StepParams, options?: AsyncOptions): Promise<void> {
    await runStepAsync("step", [this.#stepInput(params)], false, options);
  }

  #stepInput(params: StepParams): StepInput {
    this.assertIdle("step");
    if (typeof params !== "object" || params === null) {
      throw argumentError("step", "an object", "params", params);
    }
    const { k, v, q, out } = params;
    const { layers, queryHeads, headDim } = this.options;
    const tokens = params.tokens ?? tokensOf(q, 2, layers * queryHeads * headDim);
    const scores = this.sumsFor("step", -1, tokens, params.scores);
    this.forgetSimilarity();
    return { cache: this, layer: -1, tokens, k, v, q, out, scores };
  }

  /**
   * Compresses by the method. Runs off the event loop; the cache changes all at once at the end, and not at all
   * when the call fails or is aborted.
   *
   * @param options abort signal and progress callback
   * @returns what was done
   * @throws {SpindleKVError} ERR_SPINDLEKV_ABORTED, ERR_SPINDLEKV_OUT_OF_MEMORY, ERR_SPINDLEKV_NON_FINITE,
   *   ERR_SPINDLEKV_MISSING_INPUT (queries were not recorded), ERR_SPINDLEKV_BUSY,
   *   ERR_SPINDLEKV_ARGUMENT (the target is below what the protected slots take)
   */
  async compress(options: CompressOptions = {}): Promise<CompressReport> {
    return await this.exclusively("compress", () => compressCache(this, options));
  }

  /**
   * Does what the method's schedule asks for after a pass of the model, be it the prompt, a part of it or one token:
   * compresses the prompt, then brings every layer that has outgrown its budget back to it. Nothing for methods that
   * compress once (`compress`) or that follow every append on their own.
   *
   * A head of 16 pages or more may hold up to a page of dropped slots until they are closed up, unless the target is in
   * bytes.
   *
   * @param options as for {@link compress}
   * @returns what was done; null when nothing was due
   * @throws {SpindleKVError} as {@link compress}
   * @example
   * ```ts
   * for (const layer of cache.layers) { layer.append(k, v); layer.attend(q, out); }
   * await cache.maintain();
   * ```
   */
  async maintain(options: CompressOptions = {}): Promise<CompressReport | null> {
    return await this.exclusively("maintain", () => maintainCache(this, options));
  }

  /** @internal One compression at a time. */
  async exclusively<T>(op: string, work: () => Promise<T>): Promise<T> {
    this.assertIdle(op);
    this.#isCompressing = true;
    try {
      return await work();
    } catch (error) {
      throw asCompressError(error);
    } finally {
      this.#isCompressing = false;
    }
  }

  /** What the cache holds. @throws {SpindleKVError} ERR_SPINDLEKV_DISPOSED */
  stats(): CacheStats {
    return this.statsOf(this.describe());
  }

  /** @internal What the store says of each layer. */
  describe(): StoreLayerInfo[] {
    return this.layers.map((layer) => describeLayer(this, layer.index));
  }

  /** @internal {@link stats} of what was described already. */
  statsOf(infos: readonly StoreLayerInfo[]): CacheStats {
    const addon = storeAddon();
    const { kvHeads, headDim } = this.options;
    const tokens = infos[0]?.position ?? 0;
    const nativeBytes = infos.reduce((sum, info) => sum + info.position * kvHeads * headDim * 4, 0);
    const bytes = sumParts(infos.map((info) => info.bytes));
    return {
      device: this.device.name,
      method: this.method.id,
      tokens,
      bytes,
      queryBytes: addon.storeQueryBytes(this),
      sumBytes: this.#sums?.bytes ?? 0,
      nativeBytes,
      ratio: nativeBytes === 0 ? 0 : bytes.total / nativeBytes,
      perLayer: infos.map((info) => ({
        bytes: info.bytes.total,
        parts: info.bytes,
        slots: info.heads.reduce((sum, head) => sum + head.slots, 0),
        heads: info.heads,
      })),
      pool: this.pool.stats(),
    };
  }

  /** Every stored byte as one string: equal snapshots mean bit-identical caches. For tests and checkpoints. */
  async snapshot(): Promise<Uint8Array> {
    this.assertIdle("snapshot");
    return new Uint8Array(await storeAddon().storeSnapshot(this));
  }

  /** @internal The contents changed: similarities of before are of no use any more. */
  forgetSimilarity(): void {
    if (this.similarity.isEmpty) return;
    this.similarity.release();
    this.similarity = new SimilarityMemo();
  }

  /** @internal */
  assertIdle(op: string): void {
    if (!this.#isCompressing) return;
    throw spindleError(
      "ERR_SPINDLEKV_BUSY",
      op,
      `${op}: expected an idle cache for cache, got one that is being compressed`,
    );
  }

  /** Frees the cache's pages. Idempotent; a running `compress` fails. */
  dispose(): void {
    if (this.#isDisposed) return;
    this.#isDisposed = true;
    this.similarity.release();
    this.#sums?.dispose();
    storeAddon().storeDispose(this);
    if (this.#ownPool === undefined) return;
    this.#ownPool.owners -= 1;
    if (this.#ownPool.owners === 0) this.pool.dispose();
  }

  [Symbol.dispose](): void {
    this.dispose();
  }
}

/** A step's failure is that of the call: the step's own error, if it adds anything, becomes the cause. */
function asCompressError(error: unknown): unknown {
  const op = "compress";
  if (!(error instanceof SpindleKVError) || error.op === op) return error;
  const { code, nativeCode } = error;
  const message = `${op}: ${error.message.slice(error.op.length + 2)}`;
  const cause = code === "ERR_SPINDLEKV_ABORTED" ? error.cause : error;
  return new SpindleKVError({ code, op, message, nativeCode, cause });
}

/** An every-step method with a target in tokens holds it from the first append on. */
function initialPolicies(method: Method): StorePolicies {
  if (!isWindowed(method) || method.target === null || method.select === null) return {};
  if (!("tokens" in method.target)) return {};
  const { tokens } = method.target;
  const { sinks } = method.select;
  if (tokens <= sinks) {
    throw argumentError("KVCache", `more than the ${sinks} sinks`, "target.tokens", tokens);
  }
  return { trim: { sinks, recent: tokens - sinks } };
}
