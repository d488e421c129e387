// Runs window_scores on seeded values and compares sums, squares and maxima with the twin bit for bit, all
// outputs with the float64 oracle within their bounds.
import { expect } from "vitest";
import type { FloatDType } from "../oracle/float-formats.ts";
import { type QueryValues, slotsOf } from "../oracle/types.ts";
import type { WindowCounting, WindowNorm } from "../oracle/window-scores.ts";
import { ops } from "./api.ts";
import { invoke } from "./backends.ts";
import { compareExact, compareWithin } from "./compare.ts";
import { logitScaleOf, placeHeads, placeRope } from "./heads.ts";
import type { Layout } from "./layouts.ts";
import { windowScoresOracle, windowScoresTwin } from "./oracles.ts";
import { type Arena, readNumbers } from "./tensors.ts";
import { entropyBound, lseBound, scoreBound, squareBound } from "./tolerance.ts";

export interface WindowSetting extends WindowCounting {
  readonly dtype: FloatDType;
  readonly qDtype: FloatDType;
  readonly norm: WindowNorm;
  readonly layout?: Layout;
  readonly refBytes?: 2 | 4;
}

export interface WindowOutputs {
  readonly sum: ArrayLike<number>; // [Hq, stride]
  readonly sumSq: ArrayLike<number>;
  readonly max: ArrayLike<number>;
  readonly entropy: ArrayLike<number>;
  readonly lse: ArrayLike<number>;
  readonly nonfinite: number;
}

/** Elements past a head's slots must keep this value. */
export const UNWRITTEN = -7;

const strideOf = (values: QueryValues) => Math.max(1, ...values.heads.map(slotsOf));

export async function runWindow(
  arena: Arena,
  values: QueryValues,
  setting: WindowSetting,
  nonfiniteStart = 0,
): Promise<WindowOutputs> {
  const { headDim, group, queries, heads, rope } = values;
  const { layout = "contiguous" } = setting;
  const queryHeads = heads.length * group;
  const shape = [queryHeads, strideOf(values)];
  const data = new Float32Array(shape[0] * shape[1]).fill(UNWRITTEN);
  const columns = (name: string) => arena.output("f32", shape, { layout, data, name });
  const outputs = {
    sum: columns("sum"),
    sumSq: columns("sumSq"),
    max: columns("max"),
    entropy: arena.output("f32", [queryHeads], { name: "entropy" }),
    lse: arena.output("f32", [queryHeads, queries], { name: "lse" }),
    nonfinite: arena.output("i32", [1], { data: [nonfiniteStart], name: "nonfinite" }),
  };
  await invoke(arena.random, ops.windowScores, {
    q: arena.input(setting.qDtype, [queryHeads, queries, headDim], values.q, { layout, name: "q" }),
    heads: placeHeads(arena, heads, setting.dtype, headDim, setting),
    scale: values.scale,
    queryPosition: values.queryPosition,
    ropeQueryPosition: values.ropeQueryPosition,
    reindex: values.reindex,
    norm: setting.norm,
    ...(setting.queryWeights && {
      queryWeights: arena.input("f32", [queries], setting.queryWeights, { name: "queryWeights" }),
    }),
    ...(setting.entropyContext !== undefined && { entropyContext: setting.entropyContext }),
    ...(rope && { rope: placeRope(arena, rope) }),
    ...outputs,
  });
  return {
    sum: await readNumbers(outputs.sum),
    sumSq: await readNumbers(outputs.sumSq),
    max: await readNumbers(outputs.max),
    entropy: await readNumbers(outputs.entropy),
    lse: await readNumbers(outputs.lse),
    nonfinite: (await readNumbers(outputs.nonfinite))[0],
  };
}

export async function checkWindow(
  arena: Arena,
  values: QueryValues,
  setting: WindowSetting,
): Promise<WindowOutputs> {
  const got = await runWindow(arena, values, setting);
  compareWindow(got, values, setting);
  return got;
}

/** Compares all outputs; rows are as long as the longest head, and UNWRITTEN past the slots of theirs. */
export function compareWindow(
  got: WindowOutputs,
  values: QueryValues,
  setting: WindowCounting & { readonly norm: WindowNorm },
): void {
  const twin = windowScoresTwin(values, setting.norm, setting);
  const oracle = windowScoresOracle(values, setting.norm, setting);
  const scale = logitScaleOf(values);
  const { queries } = values;
  const stride = strideOf(values);
  const bounds = { sum: scoreBound, sumSq: squareBound, max: scoreBound } as const;
  // Weights of both signs may cancel out in the sum, but not in its error.
  const queryWeights = setting.queryWeights?.map(Math.abs);
  const sizes =
    queryWeights === undefined
      ? oracle
      : { ...oracle, sum: windowScoresOracle(values, setting.norm, { queryWeights }).sum };
  for (const part of ["sum", "sumSq", "max"] as const) {
    twin[part].forEach((row, h) => {
      const name = `${part} of query head ${h}`;
      const all = Array.from(got[part]).slice(h * stride, (h + 1) * stride);
      const filler = new Array<number>(stride - row.length).fill(UNWRITTEN);
      compareExact(name, all, [...row, ...filler]);
      compareWithin(`${name} against float64`, all.slice(0, row.length), oracle[part][h], {
        element: (s) => bounds[part](sizes[part][h][s], queries, scale),
      });
    });
  }
  compareWithin("entropy", got.entropy, oracle.entropy, {
    element: (h) => entropyBound(oracle.entropy[h], queries, scale),
  });
  compareWithin("lse", got.lse, oracle.lse, {
    element: (i) => lseBound(oracle.lse[i], 0, scale),
  });
  expect(got.nonfinite).toBe(twin.nonfinite);
}
