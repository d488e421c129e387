/** Caches of the evaluation: what lib/eval tries, made of the library's own. */
import { KVCache } from "../cache/kv-cache.js";
import { full } from "../methods/full.js";
import type { Method, ScorePart } from "../cache/method.js";
import { type ExportedSegment, storeAddon } from "../cache/native-store.js";
import type { Device } from "../device.js";
import { type CacheContents, runsOf } from "../eval/contents.js";
import type { MeasuredCache } from "../eval/long-decode.js";
import type { TrialChoice } from "../eval/index.js";
import type { LlamaConfig } from "../runtimes/gguf-llama/index.js";

/** A cache under test that can be looked into. */
export interface EvalCache extends MeasuredCache {
  fork(choice?: TrialChoice): EvalCache;
  contents(): Promise<Pick<CacheContents, "tokens" | "layers">>;
}

export interface EvalCachesOptions {
  readonly device: Device;
  readonly config: LlamaConfig;
  /** The method of a choice. */
  readonly methodOf: (choice: TrialChoice) => Method;
  /** Query rows that the forks' scorers read at most. */
  readonly recordQueries: number;
}

/** Opens caches. */
export interface EvalCaches {
  /** An uncompressed cache for any fork: keys before RoPE, queries recorded, attention summed up per such rows. */
  readonly openBase: (sums: ScorePart["sums"]) => EvalCache;
  /** A cache of the method from its first token on. */
  readonly open: (method: Method) => EvalCache;
}

/** Caches on one device, for one model. */
export function evalCaches({
  device,
  config,
  methodOf,
  recordQueries,
}: EvalCachesOptions): EvalCaches {
  const shape = {
    layers: config.layers,
    queryHeads: config.queryHeads,
    kvHeads: config.kvHeads,
    headDim: config.headDim,
    dtype: "f16",
    rope: config.rope,
  } as const;
  const wrap = (cache: KVCache): EvalCache => ({
    layers: cache.layers,
    fork: (choice) => wrap(cache.fork(choice === undefined ? {} : { method: methodOf(choice) })),
    compress: async () => {
      await cache.compress();
    },
    maintain: () => cache.maintain(),
    stats: () => {
      const { bytes, perLayer } = cache.stats();
      return { total: bytes.total, perLayer: perLayer.map((layer) => layer.bytes) };
    },
    memory: () => {
      const { bytes, pool } = cache.stats();
      return {
        cacheBytes: bytes.total,
        poolBytes: pool.bytesUsed,
        reservedBytes: pool.bytesReserved,
      };
    },
    contents: () => contentsOf(cache),
    dispose: () => cache.dispose(),
  });
  return {
    openBase: (sums) =>
      wrap(
        new KVCache(device, {
          ...shape,
          ...{ method: full(), preRopeKeys: true, recordQueries },
          ...(sums === "none" ? {} : { accumulateScores: sums }),
        }),
      ),
    open: (method: Method) => wrap(new KVCache(device, { ...shape, method })),
  };
}

async function contentsOf(cache: KVCache): Promise<Pick<CacheContents, "tokens" | "layers">> {
  const { layers, kvHeads } = cache.options;
  const rows: CacheContents["layers"][number][] = [];
  for (let layer = 0; layer < layers; layer++) {
    const heads: CacheContents["layers"][number][number][] = [];
    for (let head = 0; head < kvHeads; head++) {
      const segments = await storeAddon().storeExportHead(cache, { layer, head });
      const positions = segments.flatMap((segment) => [...new Int32Array(segment.positions)]);
      const bytes = segments.reduce((sum, segment) => sum + arrayBytes(segment), 0);
      heads.push({ slots: positions.length, bytes, kept: runsOf(positions) });
    }
    rows.push(heads);
  }
  return { tokens: cache.tokens, layers: rows };
}

/** Bytes of everything that a segment stores. */
function arrayBytes(segment: ExportedSegment): number {
  return Object.values(segment).reduce<number>(
    (sum, value) => sum + (value instanceof ArrayBuffer ? value.byteLength : 0),
    0,
  );
}
