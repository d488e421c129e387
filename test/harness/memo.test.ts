// memoised: one computation for one content, and another for anything that differs.
import { expect, it } from "vitest";
import { memoised } from "./memo.ts";

it("computes once for arguments of the same content", () => {
  let calls = 0;
  const sum = memoised((values: { readonly x: Float32Array; readonly k?: number[] }) => {
    calls += 1;
    return { total: values.x.reduce((a, b) => a + b, 0) };
  });
  const first = sum({ x: Float32Array.of(1, 2), k: [3] });
  expect(first).toEqual({ total: 3 });
  expect(sum({ k: [3], x: Float32Array.of(1, 2) })).toBe(first);
  expect(calls).toBe(1);
  expect(sum({ x: Float32Array.of(1, 3), k: [3] })).toEqual({ total: 4 });
  expect(calls).toBe(2);
});

it("tells apart whatever differs", () => {
  const distinct: unknown[] = [
    0,
    -0,
    1,
    "1",
    true,
    undefined,
    [],
    [[]],
    [0],
    [-0],
    [1, 2],
    [[1], 2],
    ["1", "2"],
    {},
    { a: 1 },
    { a: 2 },
    { b: 1 },
    { a: 1, b: 1 },
    { a: { b: 1 } },
    new Float32Array(2),
    new Int32Array(2),
    new Float64Array(1),
    new Float32Array(3),
  ];
  let calls = 0;
  const count = memoised((_: unknown) => ++calls);
  const results = distinct.map((value) => count(value));
  expect(new Set(results).size).toBe(distinct.length);
  expect(distinct.map((value) => count(value))).toEqual(results);
});

it("refuses what has no content to compare", () => {
  const name = memoised((value: unknown) => typeof value);
  expect(() => name(() => 0)).toThrow("expected plain data, got a function");
  expect(() => name({ deep: [Symbol("s")] })).toThrow("expected plain data, got a symbol");
});
