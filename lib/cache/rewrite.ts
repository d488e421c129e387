/** The two things a budget leads to: the bytes it would take, and the rewritten segments. */
import { spindleError } from "../errors.js";
import { createCancelToken } from "../jobs.js";
import { buildCodebookAsync } from "../ops/index.js";
import { Tensor } from "../tensor.js";
import type { KeptIndices } from "./attention-sums.js";
import type { PlannedLayer } from "./commit-plan.js";
import { type CompressionJob, throwIfAborted } from "./compression-job.js";
import type { LayerCovers } from "./layer-covers.js";
import type { LayerRows } from "./layer-rows.js";
import { type CodebookCodec, isWindowed, needsPreRopeKeys } from "./method.js";
import { type StoreLayerInfo, storeAddon } from "./native-store.js";
import { rowCounts, type Selection, selectLayer } from "./selection.js";

export interface Thetas {
  readonly k: number;
  readonly v: number;
}

/** What the trials of a budget share. */
export interface TrialMemory {
  readonly rows: LayerRows;
  readonly covers: LayerCovers;
}

/** Bytes of each of the given layers with the planned slots. Nothing is changed. */
export async function plannedBytes(
  job: CompressionJob,
  layers: readonly PlannedLayer[],
  thetas: Thetas | null,
  memory: TrialMemory,
): Promise<number[]> {
  const isPlain = job.infos.every((info) => info.heads.every((head) => head.isPlain));
  if (!isPlain) return trialBytes(job, layers, thetas);
  const bytes: number[] = [];
  for (const planned of layers) {
    throwIfAborted(job.signal);
    bytes.push(await plannedLayerBytes(job, planned, thetas, memory));
  }
  return bytes;
}

/** The same of one layer of raw slots. */
async function plannedLayerBytes(
  job: CompressionJob,
  planned: PlannedLayer,
  thetas: Thetas | null,
  memory: TrialMemory,
): Promise<number> {
  const { codec } = job.method;
  const isRaw = codec.id === "raw" || thetas === null;
  if (isRaw && planned.scores.group === 1) {
    return sumOf(plannedCounts(job, planned), (count) => rawBytes(job, count, false));
  }
  using selection = await selectLayer(job, planned.scores, planned.plan);
  const hasMask = selection.masks !== undefined;
  if (isRaw) return sumOf(selection.counts, (count) => rawBytes(job, count, hasMask));
  const codewords = await coverLayer(job, planned, selection, codec, thetas, memory);
  return sumOf(selection.counts, (count, head) => {
    const rawSlots = rawRecentOf(job, codec, count);
    return headBytes(job, hasMask, {
      rawSlots,
      slots: count - rawSlots,
      kCodewords: codewords[2 * head] as number,
      vCodewords: codewords[2 * head + 1] as number,
    });
  });
}

function sumOf(
  counts: readonly number[],
  bytesOf: (count: number, head: number) => number,
): number {
  return counts.reduce((sum, count, head) => sum + bytesOf(count, head), 0);
}

/** Slots that each head keeps where every head has one ranking: no need to select them for that. */
function plannedCounts(job: CompressionJob, { scores, plan }: PlannedLayer): number[] {
  const { lengths } = scores;
  return rowCounts(plan, lengths.length).map((k, row) =>
    Math.min(lengths[row] ?? 0, job.sinks + job.recent + k),
  );
}

function rawBytes(job: CompressionJob, count: number, hasMask: boolean): number {
  return sumOf(piecesOf(job, count), (rawSlots) => headBytes(job, hasMask, { rawSlots }));
}

/** Slots of the raw segments that `count` kept slots are cut into. */
function piecesOf(job: CompressionJob, count: number): number[] {
  const size = pieceSlots(job);
  if (size === 0) return [count];
  const pieces = new Array<number>(Math.floor(count / size)).fill(size);
  return count % size === 0 ? pieces : [...pieces, count % size];
}

/** Pages of a window that moves on are given back one by one; other slots stay in one piece (0). */
function pieceSlots({ method, cache }: CompressionJob): number {
  return isWindowed(method) ? (cache.options.pageSlots ?? 64) : 0;
}

function headBytes(
  job: CompressionJob,
  hasMask: boolean,
  shape: { rawSlots: number; slots?: number; kCodewords?: number; vCodewords?: number },
): number {
  return storeAddon().storePlannedBytes(job.cache, {
    slots: 0,
    kCodewords: 0,
    vCodewords: 0,
    hasMask,
    ...shape,
  });
}

function rawRecentOf(job: CompressionJob, codec: CodebookCodec, slots: number): number {
  return codec.recentRaw ? Math.min(job.recent, slots) : 0;
}

/** Bytes by doing it: for caches whose slots are stored in several ways, where no formula knows the result. */
async function trialBytes(
  job: CompressionJob,
  layers: readonly PlannedLayer[],
  thetas: Thetas | null,
): Promise<number[]> {
  const addon = storeAddon();
  const draft = {};
  addon.draftCreate(draft, job.cache);
  try {
    await rewrite(job, layers, thetas, null, draft, () => undefined);
    return layers.map(({ layer }) => addon.draftBytes(draft, { layer }));
  } finally {
    addon.draftDispose(draft);
  }
}

/**
 * Rewrites the given layers into the draft.
 *
 * @param covers of the same slots and thetas, where a trial found them
 * @returns the slots that stay; read back only where the cache needs them
 */
export async function rewrite(
  job: CompressionJob,
  layers: readonly PlannedLayer[],
  thetas: Thetas | null,
  covers: LayerCovers | null,
  draft: object,
  onProgress: (done: number) => void,
): Promise<KeptIndices[]> {
  const { cache, method, signal } = job;
  const addon = storeAddon();
  const { codec } = method;
  const rotate =
    cache.options.rope !== undefined &&
    !needsPreRopeKeys(method) &&
    cache.options.preRopeKeys !== true;
  const isFollowed = cache.sums !== undefined || method.schedule === "per-layer";
  const kept: KeptIndices[] = [];
  const cancel = createCancelToken(signal);
  try {
    for (const [done, planned] of layers.entries()) {
      const { layer, scores, plan } = planned;
      using selection = await selectLayer(job, scores, plan);
      const { indices, counts, masks } = selection;
      await cancel.raced(
        addon.draftKeep(
          draft,
          {
            layer,
            indices,
            counts,
            ...(masks === undefined ? {} : { masks }),
            rotate,
            pieceSlots: pieceSlots(job),
            leaveGaps: job.leavesGaps,
          },
          cancel.token,
        ),
      );
      if (isFollowed) {
        const slots = (await indices.read()) as Int32Array;
        kept.push({ layer, indices: slots, stride: indices.shape[1] as number, counts });
      }
      if (codec.id === "codebook" && thetas !== null) {
        const cover = covers?.get(planned, thetas);
        await cancel.raced(
          addon.draftEncode(
            draft,
            {
              layer,
              thetaK: thetas.k,
              thetaV: thetas.v,
              refine: codec.refine,
              codewords: codec.codewords,
              rawRecent: codec.recentRaw ? job.recent : 0,
              ...(cover !== undefined && { cover: { ...cover, slots: indices } }),
            },
            cancel.token,
          ),
        );
      }
      throwIfAborted(signal);
      onProgress((done + 1) / layers.length);
    }
    return kept;
  } finally {
    cancel.dispose();
  }
}

/** Codewords that the selected slots of each head would need, [kvHeads, 2] of K and V. */
async function coverLayer(
  job: CompressionJob,
  planned: PlannedLayer,
  selection: Selection,
  codec: CodebookCodec,
  thetas: Thetas,
  memory: TrialMemory,
): Promise<readonly number[]> {
  const { cache, signal } = job;
  const { layer } = planned;
  const { device } = cache;
  const kept = selection.counts.map((count) => count - rawRecentOf(job, codec, count));
  const total = kept.reduce((a, b) => a + b, 0);
  const stride = selection.indices.shape[1] as number;
  const key = `${layer} ${thetas.k} ${thetas.v}`;
  const { heads } = job.infos[layer] as StoreLayerInfo;
  const size = graphBytes(heads.map(({ slots }) => slots));
  // Raised thetas are tried once each.
  const isRaised = thetas.k !== codec.thetaK || thetas.v !== codec.thetaV;
  const isKept =
    codec.codewords === 0 && !isRaised && cache.similarity.admits(key, size, graphBytes(kept));
  const rows = isKept ? [] : await memory.rows.read(layer);
  const graphs = isKept
    ? await cache.similarity.get(key, size, () => buildGraphs(job, layer, thetas, memory.rows))
    : [];
  const views: Tensor[] = [];
  const part = (of: Tensor, offset: number, length: number): Tensor => {
    const view = of.view({ offset, shape: [length] });
    views.push(view);
    return view;
  };
  const lists = Tensor.empty(device, "i32", [Math.max(1, 4 * total)]);
  try {
    using counts = Tensor.zeros(device, "i32", [2 * kept.length]);
    using nonfinite = Tensor.zeros(device, "i32", [1]);
    const problems = [];
    let next = 0;
    const take = (length: number): Tensor => {
      next += length;
      return part(lists, next - length, length);
    };
    for (const [head, slots] of kept.entries()) {
      if (slots === 0) continue;
      for (const [side, theta] of [thetas.k, thetas.v].entries()) {
        const graph = graphs[2 * head + side];
        const x = rows[2 * head + side];
        problems.push({
          ...(x === undefined ? {} : { x }),
          ...(graph === undefined ? {} : { graph }),
          rows: part(selection.indices, head * stride, slots),
          theta,
          labels: take(slots),
          leaders: take(slots),
          count: part(counts, 2 * head + side, 1),
        });
      }
    }
    await buildCodebookAsync(
      { problems, stages: ["cover"], maxCodewords: codec.codewords, nonfinite },
      signal === undefined ? {} : { signal },
    );
    await checkFinite(nonfinite, layer);
    const codewords = Array.from((await counts.read()) as Int32Array);
    memory.covers.set(planned, thetas, { lists, codewords });
    return codewords;
  } catch (error) {
    lists.dispose();
    throw error;
  } finally {
    for (const view of views) view.dispose();
  }
}

/** Bytes of similarity graphs of heads of so many slots: a bit a pair of slots, for K and V. */
function graphBytes(slots: readonly number[]): number {
  return slots.reduce((sum, count) => sum + 2 * count * Math.ceil(count / 64) * 8, 0);
}

/** Similarity graphs of every head of a layer over all its slots: [k0, v0, k1, v1, ...]. */
async function buildGraphs(
  job: CompressionJob,
  layer: number,
  thetas: Thetas,
  layerRows: LayerRows,
): Promise<Tensor[]> {
  const { cache, signal } = job;
  const { device } = cache;
  const rows = await layerRows.read(layer);
  const graphs: Tensor[] = [];
  const views: Tensor[] = [];
  try {
    using unused = Tensor.zeros(device, "i32", [
      2 * Math.max(1, ...rows.map((x) => x.shape[0] ?? 0)) + 1,
    ]);
    using nonfinite = Tensor.zeros(device, "i32", [1]);
    const part = (offset: number, length: number): Tensor => {
      const view = unused.view({ offset, shape: [length] });
      views.push(view);
      return view;
    };
    const problems = rows.map((x, index) => {
      const slots = x.shape[0] as number;
      const graph = Tensor.empty(device, "u64", [slots, Math.ceil(slots / 64)]);
      graphs.push(graph);
      return {
        x,
        theta: index % 2 === 0 ? thetas.k : thetas.v,
        graph,
        labels: part(0, slots),
        leaders: part(slots, slots),
        count: part(2 * slots, 1),
      };
    });
    await buildCodebookAsync(
      { problems, stages: ["graph"], nonfinite },
      signal === undefined ? {} : { signal },
    );
    await checkFinite(nonfinite, layer);
    return graphs;
  } catch (error) {
    for (const graph of graphs) graph.dispose();
    throw error;
  } finally {
    for (const view of views) view.dispose();
  }
}

/** @param nonfinite [1] i32: rows that an op found to hold what is no number */
async function checkFinite(nonfinite: Tensor, layer: number): Promise<void> {
  const bad = Number((await nonfinite.read())[0]);
  if (bad === 0) return;
  throw spindleError(
    "ERR_SPINDLEKV_NON_FINITE",
    "compress",
    `compress: expected finite keys and values for codec codebook, got ${bad} rows of layer ${layer} that are not`,
  );
}
