// The largest total within a number of bytes, in as few trials as their cost allows.
import { describe, expect, it } from "vitest";
import { searchBudget } from "../../lib/cache/budget-search.ts";

const most = 20_000;

/** Slots of each part of a total, and bytes of the slots of a part. */
interface Parts {
  readonly slotsOf: (total: number) => number[];
  readonly bytesOf: (slots: number, part: number) => number;
}

const one = (bytesOf: (slots: number) => number): Parts => ({
  slotsOf: (total) => [total],
  bytesOf,
});

const cases: Record<string, Parts> = {
  "as many bytes a slot": one((slots) => 5_000 + 512 * slots),
  "whole pages": one((slots) => 5_000 + 32_768 * Math.ceil(slots / 64)),
  "fewer codewords the more slots there are": one(
    (slots) => 5_000 + 8 * slots + 9_000 * slots ** 0.6,
  ),
  "codewords up to some thousands": one(
    (slots) => 5_000 + 8 * slots + 512 * Math.min(slots, 3_000),
  ),
  "slots that take more and more": one((slots) => 5_000 + 8 * slots + 0.02 * slots ** 2),
  "layers that fill up one after the other": {
    slotsOf: (total) => [0.4, 0.3, 0.2, 0.1].map((share) => Math.min(most / 4, share * total)),
    bytesOf: (slots, part) => 1_000 + 8 * slots + 3_000 * slots ** (0.5 + 0.15 * part),
  },
};

async function search({ slotsOf, bytesOf }: Parts, share: number, first?: number) {
  const partsOf = (total: number) => slotsOf(total).map(bytesOf);
  const totalBytes = (total: number) => partsOf(total).reduce((sum, bytes) => sum + bytes, 0);
  const target = share * totalBytes(most);
  const tried: number[] = [];
  const found = await searchBudget(target, most, {
    bytes: async (total) => {
      tried.push(total);
      return partsOf(total);
    },
    slots: async (total) => slotsOf(total),
    ...(first !== undefined && { first }),
  });
  return { target, tried, found, totalBytes };
}

describe.each(Object.entries(cases))("%s", (_, parts) => {
  const shares = [0.02, 0.1, 0.2, 0.35, 0.5, 0.8, 0.97];

  it.each(shares)("uses %f of all, or no slot more would fit", async (share) => {
    for (const first of [undefined, 1, 100, Math.floor(share * most)]) {
      const { target, tried, found, totalBytes } = await search(parts, share, first);
      const { total, bytes } = found?.trial ?? { total: -1, bytes: -1 };
      expect(bytes).toBe(totalBytes(total));
      expect(bytes).toBeLessThanOrEqual(target);
      if (bytes < 0.993 * target) expect(totalBytes(total + 1)).toBeGreaterThan(target);
      expect(found?.evaluations).toBe(tried.length);
      expect(new Set(tried).size).toBe(tried.length);
      expect(tried.length).toBeLessThanOrEqual(3 + 2 * Math.log2(most));
    }
  });

  it("keeps everything where that fits", async () => {
    for (const first of [undefined, 1, 5_000, most - 1]) {
      for (const share of [1, 1.2, 3]) {
        const { found, totalBytes } = await search(parts, share, first);
        expect(found?.trial).toEqual({ total: most, bytes: totalBytes(most) });
      }
    }
  });

  it("finds nothing where not even the protected slots fit", async () => {
    const { totalBytes } = await search(parts, 1);
    for (const first of [undefined, 1]) {
      const { found } = await search(parts, (0.9 * totalBytes(0)) / totalBytes(most), first);
      expect(found).toBeNull();
    }
  });
});

describe("a search that begins with few slots", () => {
  it.each(["fewer codewords the more slots there are", "layers that fill up one after the other"])(
    "does not try many more than it finds: %s",
    async (name) => {
      for (const share of [0.1, 0.2, 0.4, 0.6]) {
        const { tried, found } = await search(cases[name], share, Math.floor(0.1 * share * most));
        expect(Math.max(...tried)).toBeLessThan(1.2 * (found?.trial.total ?? 0));
        expect(tried.length).toBeLessThanOrEqual(6);
      }
    },
  );

  it("ends where there is nothing to rank", async () => {
    for (const target of [9, 10]) {
      const found = await searchBudget(target, 0, {
        bytes: async () => [10],
        slots: async () => [0],
        first: 0,
      });
      expect(found?.trial ?? null).toEqual(target < 10 ? null : { total: 0, bytes: 10 });
    }
  });
});
