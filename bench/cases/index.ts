/** The cases: one an op, and eviction, which is several. */
import type { BenchCase } from "../harness/case.ts";
import { appendKvCase } from "./append-kv.ts";
import { attendCase } from "./attend.ts";
import { attendBatchCase } from "./attend-batch.ts";
import { buildCodebookCase } from "./build-codebook.ts";
import { compactCase } from "./compact.ts";
import { evictionCase } from "./eviction.ts";
import { keyStatsCase } from "./key-stats.ts";
import { nearestCodewordCase } from "./nearest-codeword.ts";
import { poolScoresCase } from "./pool-scores.ts";
import { reduceByLabelCase } from "./reduce-by-label.ts";
import { reduceGroupCase } from "./reduce-group.ts";
import { ropeCase } from "./rope.ts";
import { rowCosineCase } from "./row-cosine.ts";
import { selectTopkCase } from "./select-topk.ts";
import { windowScoresCase } from "./window-scores.ts";

/** In the order of core/ops.h; what consists of several ops last. */
export const cases: readonly BenchCase[] = [
  appendKvCase,
  attendCase,
  attendBatchCase,
  windowScoresCase,
  poolScoresCase,
  reduceGroupCase,
  selectTopkCase,
  compactCase,
  ropeCase,
  buildCodebookCase,
  nearestCodewordCase,
  reduceByLabelCase,
  keyStatsCase,
  rowCosineCase,
  evictionCase,
];
