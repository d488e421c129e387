/** The addon's functions behind pools, stores and drafts; binding/store.cc, pool.cc and draft.cc. */
import type { Device } from "../device.js";
import type { CancelToken } from "../jobs.js";
import { native } from "../native.js";
import type { Tensor } from "../tensor.js";
import type { LayerCover } from "./layer-covers.js";

/** Bytes by what they hold; `total` is the sum of the others and a multiple of the page size. */
export interface ByteParts {
  readonly raw: number;
  readonly codewords: number;
  readonly references: number;
  readonly magnitudes: number;
  readonly positions: number;
  readonly masks: number;
  readonly betas: number;
  /** Room for appends, alignment, dropped fronts and page rounding. */
  readonly slack: number;
  readonly total: number;
}

/** One KV head of a layer. */
export interface HeadStats {
  readonly slots: number;
  /** Slots stored as references; the others are raw. */
  readonly encodedSlots: number;
  readonly kCodewords: number;
  readonly vCodewords: number;
  readonly segments: number;
  /** Whether some keys are stored after RoPE. */
  readonly hasRotatedKeys: boolean;
  /** Whether all slots are raw and stored alike, without masks: what some of them take follows from their number. */
  readonly isPlain: boolean;
}

export interface StoreLayerInfo {
  readonly position: number;
  readonly recordedQueries: number;
  readonly bytes: ByteParts;
  readonly heads: readonly HeadStats[];
}

export interface PoolStats {
  readonly pageBytes: number;
  readonly pagesUsed: number;
  readonly bytesUsed: number;
  /** Memory taken from the device, free pages included. */
  readonly bytesReserved: number;
  readonly slabs: number;
  readonly peakBytesUsed: number;
}

export interface StoreOptions {
  readonly layers: number;
  readonly kvHeads: number;
  readonly group: number;
  readonly headDim: number;
  readonly dtype: "f32" | "f16" | "bf16";
  readonly pageSlots: number;
  readonly rotateKeys: boolean;
  readonly reindex: boolean;
  readonly recordQueries: number;
  readonly rope?: object;
}

export interface StorePolicies {
  readonly rotateKeys?: boolean;
  readonly reindex?: boolean;
  readonly recordQueries?: number;
  readonly insert?: {
    recent: number;
    interval: number;
    thetaK: number;
    thetaV: number;
    codewords: number;
  };
  readonly trim?: { sinks: number; recent: number };
}

export interface PlannedShape {
  readonly slots: number;
  readonly kCodewords: number;
  readonly vCodewords: number;
  readonly hasMask: boolean;
  readonly rawSlots: number;
}

/** The number of a Tensor, or a Float32Array, or what is wrong instead. */
type Rows = unknown;

export interface StoreAddon {
  poolCreate(pool: object, device: Device, options: { pageBytes: number; slabBytes: number }): void;
  poolStats(pool: object): PoolStats;
  poolDispose(pool: object): void;
  /** The number that the functions below take; so does storeFork. */
  storeCreate(store: object, pool: object, options: StoreOptions): number;
  storeFork(store: object, source: object): number;
  storeConfigure(store: object, policies: StorePolicies): void;
  storeAppend(store: number, layer: number, k: Rows, v: Rows, tokens: number): void;
  storeAttend(
    store: number,
    layer: number,
    q: Rows,
    out: Rows,
    queries: number,
    scale: number,
    sum: number,
    mode: number,
  ): void;
  /** `fields`: `count` items of kItemFields numbers, or with count -1 one for all layers of its cache. */
  storeStep(fields: Float64Array, count: number, arrays: readonly unknown[]): void;
  storeStepAsync(
    fields: Float64Array,
    count: number,
    arrays: readonly unknown[],
    token: CancelToken | undefined,
  ): Promise<void>;
  storeWindowScores(
    store: object,
    options: {
      layer: number;
      window: number;
      norm: "sum" | "window" | "causalCount";
      scale: number;
      sum?: Tensor;
      sumSq?: Tensor;
      max?: Tensor;
      entropy?: Tensor;
      lse?: Tensor;
      /** The entropy counts the slots before the window alone. */
      entropyContext?: boolean;
      /** [window] f32: weight of each query in `sum`. */
      queryWeights?: Tensor;
      nonfinite?: Tensor;
    },
    token?: CancelToken,
  ): Promise<void>;
  /** Norms and cosines of a layer's rows, [kvHeads, longest] f32 each. */
  storeKeyStats(
    store: object,
    options: {
      layer: number;
      kNorm?: Tensor;
      cosToMean?: Tensor;
      vNorm?: Tensor;
      vL1?: Tensor;
      nonfinite?: Tensor;
    },
    token?: CancelToken,
  ): Promise<void>;
  /** Logical positions of a head's slots. */
  storePositions(store: object, options: { layer: number; head: number }): Promise<Int32Array>;
  /** The last `count` recorded queries of a query head, oldest first, [count, headDim]. */
  storeQueries(
    store: object,
    options: { layer: number; head: number; count: number },
  ): Promise<Float32Array>;
  /** Moves a layer's logical position on without slots. */
  storeSkip(store: object, layer: number, tokens: number): void;
  storeReadRaw(
    store: object,
    options: { layer: number; head: number; k: Tensor; v: Tensor },
    token?: CancelToken,
  ): Promise<void>;
  /** The numbers of {@link describeLayer}. */
  storeDescribe(store: object, layer: number): Float64Array;
  /** Slots of each head. */
  storeSlots(store: object, layer: number): number[];
  /** The position of a layer's next token. */
  storePosition(store: object, layer: number): number;
  storeQueryBytes(store: object): number;
  storePlannedBytes(store: object, shape: PlannedShape): number;
  storeSnapshot(store: object): Promise<ArrayBuffer>;
  storeExportHead(
    store: object,
    options: { layer: number; head: number },
  ): Promise<ExportedSegment[]>;
  storeReleaseQueries(store: object): void;
  storeDispose(store: object): void;
  draftCreate(draft: object, store: object): void;
  draftKeep(
    draft: object,
    options: {
      layer: number;
      indices: Tensor;
      counts: readonly number[];
      masks?: Tensor;
      pieceSlots?: number;
      rotate?: boolean;
      leaveGaps?: boolean;
    },
    token?: CancelToken,
  ): Promise<void>;
  draftEncode(
    draft: object,
    options: {
      layer: number;
      thetaK: number;
      thetaV: number;
      refine: number;
      codewords: number;
      rawRecent: number;
      cover?: LayerCover & { slots: Tensor };
    },
    token?: CancelToken,
  ): Promise<void>;
  /** Of a layer as it will be. */
  draftBytes(draft: object, options: { layer: number }): number;
  draftCommit(draft: object): void;
  draftDispose(draft: object): void;
}

/** The addon as these classes see it. */
export function storeAddon(): StoreAddon {
  return native() as unknown as StoreAddon;
}

/** What a store says of one of its layers. */
export function describeLayer(store: object, layer: number): StoreLayerInfo {
  const numbers = storeAddon().storeDescribe(store, layer);
  let at = 0;
  const next = () => numbers[at++] as number;
  const position = next();
  const recordedQueries = next();
  const bytes: ByteParts = {
    raw: next(),
    codewords: next(),
    references: next(),
    magnitudes: next(),
    positions: next(),
    masks: next(),
    betas: next(),
    slack: next(),
    total: next(),
  };
  const heads: HeadStats[] = [];
  while (at < numbers.length) {
    heads.push({
      slots: next(),
      encodedSlots: next(),
      kCodewords: next(),
      vCodewords: next(),
      segments: next(),
      hasRotatedKeys: next() !== 0,
      isPlain: next() !== 0,
    });
  }
  return { position, recordedQueries, bytes, heads };
}

/** The arrays of one segment as they are stored; lengths as core/segment.h lays them out. */
export interface ExportedSegment {
  readonly codec: "raw" | "codebook";
  readonly slots: number;
  readonly isRotated: boolean;
  readonly kCodewords: number;
  readonly vCodewords: number;
  readonly refBytes: number;
  readonly k: ArrayBuffer;
  readonly v: ArrayBuffer;
  readonly kRef: ArrayBuffer;
  readonly vRef: ArrayBuffer;
  readonly kMagnitude: ArrayBuffer;
  readonly vMagnitude: ArrayBuffer;
  readonly positions: ArrayBuffer;
  readonly mask: ArrayBuffer;
  readonly beta: ArrayBuffer;
}
