/**
 * spindlekv: store, compress and attend over the key-value cache of a transformer.
 *
 * @packageDocumentation
 */
export { type AdaptiveHeadsOptions, adaptiveHeads } from "./budget/adaptive-heads.js";
export { type CascadeOptions, cascade } from "./budget/cascade.js";
export { type CosineScheduleOptions, cosineSchedule } from "./budget/cosine-schedule.js";
export { type CoverageOptions, coverage } from "./budget/coverage.js";
export { entropyCascade } from "./budget/entropy-cascade.js";
export { type GlobalLayersOptions, globalLayers } from "./budget/global-layers.js";
export { globalPrefix } from "./budget/global-prefix.js";
export { largestRemainder } from "./budget/largest-remainder.js";
export { type BudgetProfile, profiled } from "./budget/profiled.js";
export { type PyramidOptions, pyramid } from "./budget/pyramid.js";
export { type SkipLayersOptions, skipLayers } from "./budget/skip-layers.js";
export { type SpindlePyramidOptions, spindlePyramid } from "./budget/spindle-pyramid.js";
export { type SqueezeOptions, squeeze } from "./budget/squeeze.js";
export { type UncertaintyOptions, uncertainty } from "./budget/uncertainty.js";
export { uniform } from "./budget/uniform.js";
// In front of the op of that name, which it includes.
export {
  attendBatch,
  attendBatchAsync,
  type LayerBatchParams,
  type LayerItem,
} from "./cache/attend-batch.js";
export type { CacheRope, ForkOptions, KVCacheOptions, RankGroup } from "./cache/cache-options.js";
export type { CompressOptions, CompressReport } from "./cache/compress.js";
export { KVCache, type StepParams } from "./cache/kv-cache.js";
export { type AttendOptions, LayerCache } from "./cache/layer-cache.js";
export { type RowPrunerOptions, rowPruner } from "./cache/row-pruner.js";
export type { RowRope } from "./cache/row-rope.js";
export type { Rows } from "./cache/staging.js";
export type { ScoreSums } from "./cache/step.js";
export type {
  BudgetEvidence,
  BudgetPart,
  BudgetPlanner,
  BudgetShape,
  BudgetTarget,
  CodebookCodec,
  CodecPart,
  EvidenceBudget,
  HeadRows,
  KeyStatistic,
  LayerPlan,
  LayerScores,
  Method,
  PartInput,
  PartOptions,
  RawCodec,
  Schedule,
  ScoreInput,
  ScorePart,
  SelectPart,
  ShapeBudget,
  Statistic,
  WindowRequest,
  WindowStatistics,
} from "./cache/method.js";
export type { ByteParts, HeadStats, PoolStats } from "./cache/native-store.js";
export { readStoredSlots, type StoredSlots } from "./cache/stored-slots.js";
export { PagePool, type PagePoolOptions } from "./cache/page-pool.js";
export type { CacheStats, LayerStats } from "./cache/stats.js";
export type { CapturedStep } from "./captured-step.js";
export { type CodebookOptions, codebook } from "./codec/codebook.js";
export { raw } from "./codec/raw.js";
export * from "./device.js";
export { type ErrorCode, errorCodes, SpindleKVError } from "./errors.js";
export { type AdaKVOptions, adaKV } from "./methods/ada-kv.js";
export { type BaKlaVaOptions, baklava } from "./methods/baklava.js";
export { type CakeOptions, cake } from "./methods/cake.js";
export { type ComposeOptions, compose } from "./methods/compose.js";
export { type DBudgetKVOptions, dBudgetKV } from "./methods/d-budget-kv.js";
export { type DynamicKVOptions, dynamicKV } from "./methods/dynamic-kv.js";
export { type ExpectedAttentionOptions, expectedAttention } from "./methods/expected-attention.js";
export { full } from "./methods/full.js";
export { type H2OOptions, h2o } from "./methods/h2o.js";
export { type KeyDiffOptions, keyDiff } from "./methods/key-diff.js";
export { type L2NormOptions, l2norm } from "./methods/l2norm.js";
export { type LagKVOptions, lagKV } from "./methods/lag-kv.js";
export { type LAVaOptions, lava } from "./methods/lava.js";
export { type PrefixKVOptions, prefixKV } from "./methods/prefix-kv.js";
export { type PyramidInferOptions, pyramidInfer } from "./methods/pyramid-infer.js";
export { type PyramidKVOptions, pyramidKV } from "./methods/pyramid-kv.js";
export { type SlidingWindowOptions, slidingWindow } from "./methods/sliding-window.js";
export { type SnapKVOptions, snapKV } from "./methods/snap-kv.js";
export { type SpindleKVOptions, spindleKV } from "./methods/spindle-kv.js";
export { type SqueezeAttentionOptions, squeezeAttention } from "./methods/squeeze-attention.js";
export { type StreamingLLMOptions, streamingLLM } from "./methods/streaming-llm.js";
export { type TOVAOptions, tova } from "./methods/tova.js";
export { type ZigZagKVOptions, zigzagKV } from "./methods/zigzag-kv.js";
export type { TargetOptions } from "./methods/target.js";
export * from "./ops/index.js";
export * from "./rope.js";
export {
  type AccumulatedAttentionOptions,
  accumulatedAttention,
} from "./score/accumulated-attention.js";
// Methods have these two names.
export {
  type ExpectedAttentionOptions as ExpectedAttentionScoreOptions,
  expectedAttention as expectedAttentionScore,
} from "./score/expected-attention.js";
export { keyDiff as keyDiffScore } from "./score/key-diff.js";
export { type GlobalLocalOptions, globalLocal } from "./score/global-local.js";
export { keyNorm } from "./score/key-norm.js";
export { type LagRelativeOptions, lagRelative } from "./score/lag-relative.js";
export { type LastQueryOptions, lastQuery } from "./score/last-query.js";
export { type ObservationWindowOptions, observationWindow } from "./score/observation-window.js";
export { position } from "./score/position.js";
export { type RandomOptions, random } from "./score/random.js";
export { type SinksAndRecentOptions, sinksAndRecent } from "./select/sinks-and-recent.js";
export { type TopKOptions, topK } from "./select/top-k.js";
export { type DType, Tensor } from "./tensor.js";
