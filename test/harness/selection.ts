// Runs select_topk and compares indices, counts and masks with the oracle, exactly.
import { expect } from "vitest";
import type { SelectCase, Selection } from "../oracle/select-topk.ts";
import { ops } from "./api.ts";
import { invoke } from "./backends.ts";
import type { Layout } from "./layouts.ts";
import { selectTopkOracle } from "./oracles.ts";
import { type Arena, readNumbers } from "./tensors.ts";

export interface SelectionSetting {
  readonly layout?: Layout;
  /** Masks are asked for; by default with unions only. */
  readonly hasMasks?: boolean;
  /** Columns of indices and masks; by default as many as the longest row has. */
  readonly outWidth?: number;
}

export async function runSelection(
  arena: Arena,
  values: SelectCase,
  setting: SelectionSetting = {},
): Promise<Selection[]> {
  const { rows, unionGroup = 1 } = values;
  const width = Math.max(1, ...rows.map((row) => row.length));
  const { layout = "contiguous", hasMasks = unionGroup > 1, outWidth = width } = setting;
  const data = new Float32Array(rows.length * width).fill(Infinity); // past a row's length: must not be read
  rows.forEach((row, r) => {
    data.set(row, r * width);
  });
  const outRows = rows.length / unionGroup;
  const indices = arena.output("i32", [outRows, outWidth], { layout, name: "indices" });
  const counts = arena.output("i32", [outRows], { name: "counts" });
  const masks = hasMasks
    ? arena.output("u16", [outRows, outWidth], { layout, name: "masks" })
    : undefined;
  await invoke(arena.random, ops.selectTopk, {
    scores: arena.input("f32", [rows.length, width], data, { layout, name: "scores" }),
    lengths: rows.map((row) => row.length),
    k: [...values.k],
    sinks: values.sinks,
    recent: values.recent,
    poolRows: values.poolRows,
    floor: values.floor,
    unionGroup: values.unionGroup,
    indices,
    counts,
    masks,
  });
  const allIndices = Array.from(await readNumbers(indices));
  const allMasks = masks && Array.from(await readNumbers(masks));
  return Array.from(await readNumbers(counts), (count, r) => ({
    indices: allIndices.slice(r * outWidth, r * outWidth + count),
    masks: allMasks?.slice(r * outWidth, r * outWidth + count) ?? [],
  }));
}

export async function checkSelection(
  arena: Arena,
  values: SelectCase,
  setting: SelectionSetting = {},
): Promise<Selection[]> {
  const expected = selectTopkOracle(values);
  const got = await runSelection(arena, values, setting);
  const { hasMasks = (values.unionGroup ?? 1) > 1 } = setting;
  got.forEach((row, r) => {
    expect(row.indices.length, `count of row ${r}`).toBe(expected[r].indices.length);
    const wrong = row.indices.findIndex((index, i) => index !== expected[r].indices[i]);
    expect(wrong, `row ${r}: index ${row.indices[wrong]} for ${expected[r].indices[wrong]}`).toBe(
      -1,
    );
    if (hasMasks) expect(row.masks, `masks of row ${r}`).toEqual(expected[r].masks);
  });
  return got;
}
