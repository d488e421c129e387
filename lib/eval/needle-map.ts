/**
 * Where recall fails: for each method and keep value a small map with the depth of the asked fact downwards
 * and the length of the context to the right; the darker a cell, the more of its prompts were answered.
 */
import { nameOf } from "./choices.js";
import { groupBy } from "./group.js";
import type { PromptPlace } from "./prompts.js";
import { drawing, element, label } from "./svg.js";
import type { Protocol, Trial } from "./trials.js";

/** Recall of one method at one keep value in one place of the plan. */
export interface NeedleCell {
  readonly method: string;
  readonly keep: number | null;
  readonly protocol: Protocol;
  readonly length: number;
  readonly depth: number;
  readonly recalled: number;
  readonly trials: number;
}

/** Counts the trials by place. */
export function needleCells(
  trials: readonly Trial[],
  places: readonly PromptPlace[],
): NeedleCell[] {
  const groups = groupBy(trials, ({ method, keep, protocol, prompt }) => {
    const { length, depth } = places[prompt];
    return [method, keep, protocol, length, depth].join("/");
  });
  return [...groups.values()].map((group) => {
    const { method, keep, protocol, prompt } = group[0];
    const { length, depth } = places[prompt];
    const recalled = group.filter((trial) => trial.isRecalled).length;
    return { method, keep, protocol, length, depth, recalled, trials: group.length };
  });
}

const cell = { width: 30, height: 12 };
const map = { top: 44, gapX: 26, gapY: 12, letter: 7, depth: 60 };

/** @param methods names, one row of maps each */
export function needleMap(cells: readonly NeedleCell[], methods: readonly string[]): string {
  const ordered = (values: readonly number[]) => [...new Set(values)].sort((a, b) => a - b);
  const lengths = ordered(cells.map(({ length }) => length));
  const depths = ordered(cells.map(({ depth }) => depth));
  const keeps = ordered(cells.flatMap(({ keep }) => (keep === null ? [] : [keep]))).reverse();
  const columns = Math.max(1, keeps.length);
  const width = lengths.length * cell.width + map.gapX;
  const height = depths.length * cell.height + map.gapY;
  const left = map.depth + map.letter * Math.max(...methods.map((method) => method.length));
  const heads = keeps.map((keep, c) =>
    label(left + c * width, 14, `keep ${keep}`, { style: "font-weight: 600" }),
  );
  const axis = Array.from({ length: columns }, (_, c) =>
    lengths.map((length, i) =>
      label(left + c * width + (i + 0.5) * cell.width, map.top - 8, String(length), {
        class: "small",
        "text-anchor": "middle",
      }),
    ),
  );
  const rows = methods.map((method, r) => {
    const top = map.top + r * height;
    const own = cells.filter((each) => each.method === method);
    const marks = own.map((each) => {
      const column = each.keep === null ? 0 : keeps.indexOf(each.keep);
      const recall = each.recalled / each.trials;
      const box = {
        x: left + column * width + lengths.indexOf(each.length) * cell.width,
        y: top + depths.indexOf(each.depth) * cell.height,
        width: cell.width - 1,
        height: cell.height - 1,
      };
      const hint = `${nameOf(each)}, ${each.length} tokens, depth ${each.depth}: ${each.recalled} of ${each.trials}`;
      const look = { class: "cell", "fill-opacity": recall };
      return element("rect", { ...box, ...look }, element("title", {}, hint));
    });
    const scale = [depths[0], depths[depths.length - 1]].map((depth, i) =>
      label(left - 6, top + (i === 0 ? 9 : depths.length * cell.height - 3), `depth ${depth}`, {
        class: "small",
        "text-anchor": "end",
      }),
    );
    return label(0, top + 10, method) + scale.join("") + marks.join("");
  });
  return drawing(
    left + columns * width,
    map.top + methods.length * height,
    "Needle recall by depth and length, by method",
    [...heads, ...axis.flat(), ...rows],
  );
}
