/** The cases, one an op. */
import type { BenchCase } from "../harness/case.ts";
import { appendKvCase } from "./append-kv.ts";
import { attendCase } from "./attend.ts";
import { attendBatchCase } from "./attend-batch.ts";
import { buildCodebookCase } from "./build-codebook.ts";
import { compactCase } from "./compact.ts";
import { nearestCodewordCase } from "./nearest-codeword.ts";
import { poolScoresCase } from "./pool-scores.ts";
import { reduceByLabelCase } from "./reduce-by-label.ts";
import { reduceGroupCase } from "./reduce-group.ts";
import { ropeCase } from "./rope.ts";
import { selectTopkCase } from "./select-topk.ts";
import { windowScoresCase } from "./window-scores.ts";

/** In the order of core/ops.h. */
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
];
