/** Scores of one layer: what a scorer sees of the cache, and the run of it. */
import { spindleError } from "../errors.js";
import { Tensor } from "../tensor.js";
import type { CompressionJob } from "./compression-job.js";
import type {
  HeadRows,
  KeyStatistic,
  LayerScores,
  ScoreInput,
  ScorePart,
  Statistic,
  WindowRequest,
  WindowStatistics,
} from "./method.js";
import { type StoreLayerInfo, storeAddon } from "./native-store.js";
import { rowRopeOf, turnRows } from "./row-rope.js";
import { decodeStoredSlots } from "./stored-slots.js";

/** Ranks the slots of a layer by the job's scorer; the caller disposes the scores. */
export async function scoreLayer(
  job: CompressionJob,
  layer: number,
  statistics: readonly Statistic[],
): Promise<LayerScores> {
  const { cache, score } = job;
  const lengths = (job.infos[layer] as StoreLayerInfo).heads.map((head) => head.slots);
  const longest = Math.max(...lengths, 1);
  // A prompt of protected slots alone is kept whole: nothing is ranked.
  if (score === null || (job.context === 0 && score.source !== "position")) {
    const scores = Tensor.zeros(cache.device, "f32", [cache.options.kvHeads, longest]);
    return { scores, lengths, group: 1, statistics: zeros(statistics) };
  }
  return await score.rank(inputOf(job, score, layer, lengths, statistics));
}

function zeros(statistics: readonly Statistic[]): Partial<Record<Statistic, number>> {
  return Object.fromEntries(statistics.map((name) => [name, 0]));
}

function missing(expected: string, got: string): Error {
  return spindleError(
    "ERR_SPINDLEKV_MISSING_INPUT",
    "compress",
    `compress: expected ${expected}, got ${got}`,
  );
}

function inputOf(
  job: CompressionJob,
  score: ScorePart,
  layer: number,
  lengths: readonly number[],
  statistics: readonly Statistic[],
): ScoreInput {
  const { cache } = job;
  const { device, scale } = cache;
  const { kvHeads, queryHeads, headDim, layers } = cache.options;
  const info = job.infos[layer] as StoreLayerInfo;
  const longest = Math.max(...lengths, 1);
  return {
    device,
    layer,
    layers,
    kvHeads,
    firstHead: (cache.options.ranks?.rank ?? 0) * kvHeads,
    group: queryHeads / kvHeads,
    headDim,
    scale,
    tokens: info.position,
    nextPosition: cache.method.positions === "reindexed" ? longest : info.position,
    rope: rowRopeOf(cache.options),
    lengths,
    longest,
    sinks: job.sinks,
    recent: job.recent,
    statistics,
    recordedQueries: info.recordedQueries,
    window: (request) => windowOf(job, score, layer, longest, request),
    keyStats: (names) => keyStatsOf(job, score, layer, longest, names),
    sums: () => {
      if (cache.sums === undefined) {
        throw missing(`sums of attention for score ${score.id}`, "a cache that adds none up");
      }
      return cache.sums.view(layer, longest);
    },
    positions: () =>
      Promise.all(lengths.map((_, head) => storeAddon().storePositions(cache, { layer, head }))),
    rows: (head) => rowsOf(job, layer, head),
    queries: (head, count) => storeAddon().storeQueries(cache, { layer, head, count }),
  };
}

async function rowsOf({ cache }: CompressionJob, layer: number, head: number): Promise<HeadRows> {
  const { keys, values, positions, isRotated } = await decodeStoredSlots(cache, layer, head);
  const rope = rowRopeOf(cache.options);
  if (rope !== undefined && isRotated.includes(0)) {
    const isReindexed = cache.method.positions === "reindexed";
    // A key that was turned before it was stored stays as it is.
    const turns = positions.map((position, slot) => {
      if (isRotated[slot] === 1) return -1;
      return isReindexed ? slot : position;
    });
    turnRows(keys, cache.options.headDim, turns, rope);
  }
  return { keys, values };
}

async function windowOf(
  job: CompressionJob,
  score: ScorePart,
  layer: number,
  longest: number,
  { window, norm = "sum", also = [], queryWeights }: WindowRequest,
): Promise<WindowStatistics> {
  const { cache } = job;
  const { device, scale } = cache;
  const { queryHeads } = cache.options;
  const { recordedQueries } = job.infos[layer] as StoreLayerInfo;
  if (recordedQueries < window) {
    throw missing(
      `the queries of the last ${window} tokens for score ${score.id}`,
      `${recordedQueries} recorded by attend in layer ${layer}`,
    );
  }
  const owned: Tensor[] = [];
  const own = (tensor: Tensor): Tensor => {
    owned.push(tensor);
    return tensor;
  };
  const dispose = () => {
    for (const tensor of owned) tensor.dispose();
  };
  const columns = () => own(Tensor.zeros(device, "f32", [queryHeads, longest]));
  try {
    const sum = columns();
    const sumSq = also.includes("sumSq") ? columns() : undefined;
    const max = also.includes("max") ? columns() : undefined;
    using entropy = also.includes("entropy")
      ? Tensor.zeros(device, "f32", [queryHeads])
      : undefined;
    using weights =
      queryWeights === undefined
        ? undefined
        : Tensor.from(device, "f32", [window], Float32Array.from(queryWeights));
    using nonfinite = Tensor.zeros(device, "i32", [1]);
    await storeAddon().storeWindowScores(cache, {
      layer,
      window,
      norm,
      scale,
      sum,
      ...(sumSq === undefined ? {} : { sumSq }),
      ...(max === undefined ? {} : { max }),
      ...(entropy === undefined ? {} : { entropy, entropyContext: true }),
      ...(weights === undefined ? {} : { queryWeights: weights }),
      nonfinite,
    });
    const bad = Number((await nonfinite.read())[0]);
    if (bad > 0) throw nonFinite("keys and queries", score, `${bad} logits of layer ${layer}`);
    return {
      sum,
      sumSq,
      max,
      entropy: entropy && ((await entropy.read()) as Float32Array),
      [Symbol.dispose]: dispose,
    };
  } catch (error) {
    dispose();
    throw error;
  }
}

async function keyStatsOf(
  { cache }: CompressionJob,
  score: ScorePart,
  layer: number,
  longest: number,
  names: readonly KeyStatistic[],
): Promise<Record<KeyStatistic, Float32Array>> {
  const { device } = cache;
  const { kvHeads } = cache.options;
  const columns = names.map((name) => ({
    name,
    tensor: Tensor.zeros(device, "f32", [kvHeads, longest]),
  }));
  try {
    using nonfinite = Tensor.zeros(device, "i32", [1]);
    const outputs = Object.fromEntries(columns.map(({ name, tensor }) => [name, tensor]));
    await storeAddon().storeKeyStats(cache, { layer, ...outputs, nonfinite });
    const bad = Number((await nonfinite.read())[0]);
    if (bad > 0) throw nonFinite("keys and values", score, `${bad} rows of layer ${layer}`);
    const read = columns.map(
      async ({ name, tensor }) => [name, (await tensor.read()) as Float32Array] as const,
    );
    return Object.fromEntries(await Promise.all(read)) as Record<KeyStatistic, Float32Array>;
  } finally {
    for (const { tensor } of columns) tensor.dispose();
  }
}

function nonFinite(what: string, score: ScorePart, got: string): Error {
  return spindleError(
    "ERR_SPINDLEKV_NON_FINITE",
    "compress",
    `compress: expected finite ${what} for score ${score.id}, got ${got} that are not`,
  );
}
