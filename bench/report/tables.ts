/** The tables that a terminal and the page share. */
import { formatTable } from "spindlekv/eval";
import type { CaseResult, Goal } from "../harness/result.ts";
import { relativeRange, type Spread } from "../harness/statistics.ts";
import {
  measuredText,
  percent,
  ratio,
  short,
  type Table,
  unitText,
  verdict,
  withRange,
} from "./format.ts";

/** The arms of results: one row an arm. */
export function armTable(results: readonly CaseResult[]): Table {
  const arms = results.flatMap(({ settings }) => settings.flatMap((setting) => setting.arms));
  const hasRatio = arms.some(({ ratioToFirst }) => ratioToFirst !== undefined);
  const hasBaseline = results.some(({ baseline }) => baseline !== null);
  const rows = results.flatMap((result) =>
    result.settings.flatMap((setting) =>
      setting.arms.map((arm) => [
        result.op,
        setting.shape,
        arm.peer === undefined ? arm.name : `${arm.peer}: ${arm.name}`,
        withRange(arm.milliseconds, short),
        arm.gigabytesPerSecond > 0 ? short(arm.gigabytesPerSecond) : "-",
        arm.share.median > 0 ? withRange(arm.share, percent) : "-",
        arm.gigaflopsPerSecond > 0 ? short(arm.gigaflopsPerSecond) : "-",
        ...(hasRatio ? [arm.ratioToFirst ? withRange(arm.ratioToFirst, ratio) : "-"] : []),
        ...(hasBaseline ? [speedup(arm.milliseconds, arm.baselineMilliseconds)] : []),
      ]),
    ),
  );
  const head = ["op", "shape", "arm", "ms", "GB/s", "of bandwidth", "GFLOP/s"];
  if (hasRatio) head.push("over first");
  if (hasBaseline) head.push("x baseline");
  return { head, rows };
}

function speedup(milliseconds: Spread, baseline: Spread | undefined): string {
  return baseline === undefined ? "-" : short(baseline.median / milliseconds.median);
}

/** What the machine reached in the same runs. */
export function bandwidthTable(results: readonly CaseResult[]): Table {
  const rows = results.flatMap(({ op, settings }) =>
    settings.flatMap(({ shape, bandwidth }) =>
      Object.entries(bandwidth).map(([name, spread]) => [
        op,
        shape,
        name,
        withRange(spread, short),
        percent(relativeRange(spread)),
        String(spread.count),
      ]),
    ),
  );
  return { head: ["op", "shape", "what", "GB/s or GFLOP/s", "range", "rounds"], rows };
}

/** A goal and the case it belongs to. */
export type CaseGoal = Goal & { readonly shape: string };

export const goalsOf = (results: readonly CaseResult[]): CaseGoal[] =>
  results.flatMap(({ name, goals }) => goals.map((goal) => ({ ...goal, shape: name })));

export function goalTable(goals: readonly CaseGoal[]): Table {
  const rows = goals.map((goal) => [
    goal.shape,
    goal.what,
    unitText(goal),
    measuredText(goal),
    verdict(goal),
  ]);
  return { head: ["case", "goal", "asked", "measured", ""], rows };
}

/** "11 goals met, 2 missed, 1 not measured." */
export function goalCount(goals: readonly Goal[]): string {
  const count = (met: boolean | null) => goals.filter((goal) => goal.met === met).length;
  const text = `${count(true)} of ${goals.length} goals met, ${count(false)} missed`;
  return count(null) === 0 ? `${text}.` : `${text}, ${count(null)} not measured.`;
}

/** What a run prints when it is done. */
export function terminalReport(results: readonly CaseResult[]): string {
  const tables = [armTable(results), bandwidthTable(results)];
  const goals = goalsOf(results);
  if (goals.length > 0) tables.push(goalTable(goals));
  const parts = tables.map(({ head, rows }) => formatTable(head, rows));
  if (goals.length > 0) parts.push(goalCount(goals));
  return parts.join("\n\n");
}
