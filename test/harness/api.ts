// The part of the library that the op tests call, each op in its enqueuing and its promise form.
import {
  appendKv,
  appendKvAsync,
  attend,
  attendAsync,
  attendBatch,
  attendBatchAsync,
  buildCodebook,
  buildCodebookAsync,
  compact,
  compactAsync,
  keyStats,
  keyStatsAsync,
  nearestCodeword,
  nearestCodewordAsync,
  poolScores,
  poolScoresAsync,
  reduceByLabel,
  reduceByLabelAsync,
  reduceGroup,
  reduceGroupAsync,
  rope,
  ropeAsync,
  rowCosine,
  rowCosineAsync,
  selectTopk,
  selectTopkAsync,
  windowScores,
  windowScoresAsync,
} from "../../lib/ops/index.ts";

export { type Device, openDevice } from "../../lib/device.ts";
export { SpindleKVError } from "../../lib/errors.ts";
export { makeRopeTable } from "../../lib/rope.ts";
export { type DType, Tensor } from "../../lib/tensor.ts";

export const ops = {
  appendKv: { sync: appendKv, async: appendKvAsync },
  attend: { sync: attend, async: attendAsync },
  attendBatch: { sync: attendBatch, async: attendBatchAsync },
  buildCodebook: { sync: buildCodebook, async: buildCodebookAsync },
  compact: { sync: compact, async: compactAsync },
  keyStats: { sync: keyStats, async: keyStatsAsync },
  nearestCodeword: { sync: nearestCodeword, async: nearestCodewordAsync },
  poolScores: { sync: poolScores, async: poolScoresAsync },
  reduceByLabel: { sync: reduceByLabel, async: reduceByLabelAsync },
  reduceGroup: { sync: reduceGroup, async: reduceGroupAsync },
  rope: { sync: rope, async: ropeAsync },
  rowCosine: { sync: rowCosine, async: rowCosineAsync },
  selectTopk: { sync: selectTopk, async: selectTopkAsync },
  windowScores: { sync: windowScores, async: windowScoresAsync },
} as const;

type Params<K extends keyof typeof ops> = Parameters<(typeof ops)[K]["sync"]>[0];

export type AttendParams = Params<"attend">;
export type WindowScoresParams = Params<"windowScores">;
export type BuildCodebookParams = Params<"buildCodebook">;
export type SelectTopkParams = Params<"selectTopk">;
export type Run = Params<"compact">["items"][number]["src"];
export type Rope = Params<"rope">["rope"];
