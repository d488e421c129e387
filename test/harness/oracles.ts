// The oracles of test/oracle/ that tests of ops ask on every backend, each asked once for the same case.
import * as appendKv from "../oracle/append-kv.ts";
import * as attend from "../oracle/attend.ts";
import * as codebook from "../oracle/build-codebook.ts";
import * as keyStats from "../oracle/key-stats.ts";
import * as nearest from "../oracle/nearest-codeword.ts";
import * as rope from "../oracle/rope.ts";
import * as cosine from "../oracle/row-cosine.ts";
import * as select from "../oracle/select-topk.ts";
import * as windows from "../oracle/window-scores.ts";
import { memoised } from "./memo.ts";

export const appendKvOracle = memoised(appendKv.appendKvOracle);
export const appendKvTwin = memoised(appendKv.appendKvTwin);
export const attendOracle = memoised(attend.attendOracle);
export const attendNaive = memoised(attend.attendNaive);
export const buildCodebookOracle = memoised(codebook.buildCodebookOracle);
export const buildCodebookTwin = memoised(codebook.buildCodebookTwin);
export const keyStatsOracle = memoised(keyStats.keyStatsOracle);
export const keyStatsTwin = memoised(keyStats.keyStatsTwin);
export const nearestCodewordOracle = memoised(nearest.nearestCodewordOracle);
export const nearestCodewordTwin = memoised(nearest.nearestCodewordTwin);
export const ropeOracle = memoised(rope.ropeOracle);
export const ropeTwin = memoised(rope.ropeTwin);
export const rowCosineOracle = memoised(cosine.rowCosineOracle);
export const rowCosineTwin = memoised(cosine.rowCosineTwin);
export const selectTopkOracle = memoised(select.selectTopkOracle);
export const windowScoresOracle = memoised(windows.windowScoresOracle);
export const windowScoresTwin = memoised(windows.windowScoresTwin);
