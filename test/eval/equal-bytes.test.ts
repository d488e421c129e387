import { describe, expect, it } from "vitest";
import { compareAtEqualBytes, type Measured } from "../../lib/eval/equal-bytes.ts";

type Loss = Measured<"loss">;

const measured = (method: string, keep: number | null, unit: number, bytes: number, loss: number) =>
  ({ method, keep, unit, bytes, values: { loss } }) satisfies Loss;

describe("a comparison at equal measured bytes", () => {
  it("pairs measurements of one unit whose bytes differ by less than 1 %", () => {
    const found = compareAtEqualBytes(
      [0, 1, 2].flatMap((unit) => [
        measured("ours", 0.2, unit, 0.2, 1),
        measured("theirs", 0.2, unit, 0.2019, 1.5 + unit),
        measured("theirs", 0.1, unit, 0.1, 9),
      ]),
      { method: "ours" },
    );
    expect(found).toHaveLength(1);
    expect(found[0]).toMatchObject({ baseline: "theirs", how: "paired", units: 3, of: 3 });
    expect(found[0].differences?.loss.value).toBeCloseTo(-1.5, 12);
    expect(found[0].differences?.loss.high).toBeLessThan(0);
  });

  it("takes the nearest of several, whatever keep value it was asked for", () => {
    const found = compareAtEqualBytes(
      [
        measured("ours", 0.3, 0, 0.2, 1),
        measured("theirs", 0.3, 0, 0.3, 5),
        measured("theirs", 0.2, 0, 0.2, 2),
      ],
      { method: "ours" },
    );
    expect(found[0].differences?.loss.value).toBe(-1);
  });

  it("interpolates over the logarithm of bytes otherwise", () => {
    // 0.2 lies half-way between 0.1 and 0.4 on a logarithmic axis: (4 + 1) / 2.
    const found = compareAtEqualBytes(
      [
        measured("ours", 0.2, 0, 0.2, 1),
        measured("theirs", 0.4, 0, 0.4, 1),
        measured("theirs", 0.1, 0, 0.1, 4),
        measured("theirs", 0.9, 0, 0.9, 0),
      ],
      { method: "ours" },
    );
    expect(found[0].how).toBe("interpolated");
    expect(found[0].differences?.loss.value).toBeCloseTo(1 - 2.5, 12);
  });

  it("claims nothing outside what the other method measured, on any of the units", () => {
    const found = compareAtEqualBytes(
      [
        measured("ours", 0.2, 0, 0.2, 1),
        measured("ours", 0.2, 1, 0.2, 1),
        measured("theirs", 0.2, 0, 0.2, 4),
        measured("theirs", 0.2, 1, 0.3, 4),
      ],
      { method: "ours" },
    );
    expect(found[0]).toMatchObject({ how: "none", units: 1, of: 2, bytes: 0.2 });
    expect(found[0].differences).toBeUndefined();
  });

  it("is made for each keep value and each other method", () => {
    const all = [0.5, 0.1].flatMap((keep) =>
      ["a", "b", "c"].map((method) => measured(method, keep, 0, keep, 1)),
    );
    const found = compareAtEqualBytes([...all, measured("full", null, 0, 1, 0)], { method: "b" });
    expect(found.map(({ keep, baseline, how }) => [keep, baseline, how])).toEqual([
      [0.5, "a", "paired"],
      [0.5, "c", "paired"],
      [0.5, "full", "none"],
      [0.1, "a", "paired"],
      [0.1, "c", "paired"],
      [0.1, "full", "none"],
    ]);
    const one = compareAtEqualBytes(all, { method: "b", baseline: "c" });
    expect(one.map(({ keep, baseline }) => [keep, baseline])).toEqual([
      [0.5, "c"],
      [0.1, "c"],
    ]);
  });
});
