// The largest total within a number of bytes, in as few trials as their cost allows.
import { describe, expect, it } from "vitest";
import { searchBudget } from "../../lib/cache/budget-search.ts";

const most = 20_000;

/** Bytes of a total, ascending; from what a cache does with its slots. */
const curves: Record<string, (total: number) => number> = {
  "as many bytes a slot": (total) => 5_000 + 512 * total,
  "whole pages": (total) => 5_000 + 32_768 * Math.ceil(total / 64),
  "fewer codewords the more slots there are": (total) => 5_000 + 8 * total + 9_000 * total ** 0.6,
  "codewords up to some thousands": (total) => 5_000 + 8 * total + 512 * Math.min(total, 3_000),
  "layers that need more and more": (total) => 5_000 + 8 * total + 0.02 * total ** 2,
};

async function search(bytesOf: (total: number) => number, share: number, first?: number) {
  const target = share * bytesOf(most);
  const tried: number[] = [];
  const found = await searchBudget(
    target,
    most,
    async (total) => {
      tried.push(total);
      return bytesOf(total);
    },
    first,
  );
  return { target, tried, found };
}

describe.each(Object.entries(curves))("%s", (_, bytesOf) => {
  const shares = [0.02, 0.1, 0.2, 0.35, 0.5, 0.8, 0.97];

  it.each(shares)("uses %f of all, or no slot more would fit", async (share) => {
    for (const first of [most, 1, 100, Math.floor(share * most)]) {
      const { target, tried, found } = await search(bytesOf, share, first);
      const { total, bytes } = found?.trial ?? { total: -1, bytes: -1 };
      expect(bytes).toBe(bytesOf(total));
      expect(bytes).toBeLessThanOrEqual(target);
      if (bytes < 0.993 * target) expect(bytesOf(total + 1)).toBeGreaterThan(target);
      expect(found?.evaluations).toBe(tried.length);
      expect(new Set(tried).size).toBe(tried.length);
      expect(tried.length).toBeLessThanOrEqual(3 + 2 * Math.log2(most));
    }
  });

  it("keeps everything where that fits", async () => {
    for (const first of [most, 1, 5_000, most - 1]) {
      for (const share of [1, 1.2, 3]) {
        const { found } = await search(bytesOf, share, first);
        expect(found?.trial).toEqual({ total: most, bytes: bytesOf(most) });
      }
    }
  });

  it("finds nothing where not even the protected slots fit", async () => {
    for (const first of [most, 1]) {
      const { found } = await search(bytesOf, (0.9 * bytesOf(0)) / bytesOf(most), first);
      expect(found).toBeNull();
    }
  });
});

describe("a search that begins with few slots", () => {
  it("does not try many more than it finds", async () => {
    const bytesOf = curves["fewer codewords the more slots there are"] as (total: number) => number;
    for (const share of [0.1, 0.2, 0.4, 0.6]) {
      const { tried, found } = await search(bytesOf, share, Math.floor(0.1 * share * most));
      expect(Math.max(...tried)).toBeLessThan(1.2 * (found?.trial.total ?? 0));
      expect(tried.length).toBeLessThanOrEqual(6);
    }
  });

  it("ends where there is nothing to rank", async () => {
    for (const target of [9, 10]) {
      const found = await searchBudget(target, 0, async () => 10, 0);
      expect(found?.trial ?? null).toEqual(target < 10 ? null : { total: 0, bytes: 10 });
    }
  });
});
