// PagePool: whole pages, given back when their last owner lets go, to the device when a slab is empty.
import { expect, it } from "vitest";
import { KVCache, type KVCacheOptions, PagePool, slidingWindow, snapKV } from "../../lib/index.ts";
import { describeOp } from "../harness/backends.ts";
import { feed, filledCache, makePrompt, contentsOf } from "./fixtures.ts";

const rope = { theta: 10_000, style: "neox" } as const;
const shape = { layers: 2, queryHeads: 2, kvHeads: 1, headDim: 16, dtype: "f16" } as const;

describeOp("PagePool", (_backend, device) => {
  it("counts pages of all its caches, and nothing else", async () => {
    using pool = new PagePool(device, { pageBytes: 512, slabBytes: 8192 });
    expect(pool.stats()).toEqual({
      pageBytes: 512,
      pagesUsed: 0,
      bytesUsed: 0,
      bytesReserved: 0,
      slabs: 0,
      peakBytesUsed: 0,
    });
    const prompt = makePrompt(shape, 40);
    const caches = await Promise.all(
      [1, 2, 3].map((pageSlots) => filledCache(device, prompt, { pool, pageSlots })),
    );
    const total = () => caches.reduce((sum, cache) => sum + cache.stats().bytes.total, 0);
    const { bytesUsed, pagesUsed, bytesReserved, slabs } = pool.stats();
    expect(bytesUsed).toBe(total());
    expect(bytesUsed).toBe(512 * pagesUsed);
    expect(bytesReserved).toBe(slabs * 8192);
    expect(bytesReserved).toBeGreaterThanOrEqual(bytesUsed);
    while (caches.length > 0) {
      caches.pop()!.dispose();
      expect(pool.stats().bytesUsed).toBe(total());
    }
    expect(pool.stats()).toMatchObject({ bytesReserved: 0, slabs: 0, peakBytesUsed: bytesUsed });
  });

  it("gives slabs back to the device when eviction empties them", async () => {
    using pool = new PagePool(device, { slabBytes: 2048 });
    const prompt = makePrompt(shape, 96);
    const before = device.allocations().bytes;
    using cache = new KVCache(device, {
      ...shape,
      pool,
      pageSlots: 8,
      method: snapKV({ tokens: 8, window: 4 }),
    });
    await feed(cache, prompt, { attended: 4 });
    const full = pool.stats();
    await cache.compress();
    const rest = pool.stats();
    expect(rest.bytesUsed).toBeLessThan(0.2 * full.bytesUsed);
    expect(rest.bytesReserved).toBeLessThan(0.3 * full.bytesReserved);
    expect(rest.bytesUsed).toBe(cache.stats().bytes.total);
    cache.dispose();
    expect(pool.stats()).toMatchObject({ bytesUsed: 0, bytesReserved: 0 });
    // Workspaces stay with the device.
    expect(device.allocations().bytes - before).toBeLessThan(1 << 20);
  });

  it("a slab is as large as what does not fit the usual one", async () => {
    using pool = new PagePool(device, { pageBytes: 64, slabBytes: 64 });
    using cache = await filledCache(device, makePrompt(shape, 5), { pool });
    expect(pool.stats().bytesUsed).toBe(cache.stats().bytes.total);
    expect(pool.stats().slabs).toBe(2);
  });

  it("pages that one append fills are one segment, up to an eighth of a slab", async () => {
    const prompt = makePrompt(shape, 43);
    const segmentsOf = async (options: Partial<KVCacheOptions>, chunk?: number) => {
      using cache = new KVCache(device, { ...shape, rope, pageSlots: 4, ...options });
      await feed(cache, prompt, { to: 42, chunk });
      const { segments } = cache.stats().perLayer[0].heads[0];
      // The room left is found.
      await feed(cache, prompt, { from: 42 });
      expect(cache.stats().perLayer[0].heads[0]).toMatchObject({ segments, slots: 43 });
      return { segments, contents: await contentsOf(cache) };
    };
    const whole = await segmentsOf({});
    expect(whole.segments).toBe(2);
    const single = await segmentsOf({}, 1);
    expect(single.segments).toBe(11);
    expect(single.contents).toBe(whole.contents);
    // 6 tokens: a page and two slots of the next; then those two are filled up first.
    expect((await segmentsOf({}, 6)).segments).toBe(11);
    // 10 tokens: 8 + 2, 2 + 8, ...
    expect((await segmentsOf({}, 10)).segments).toBe(7);
    // A page takes 4 * (2 * 32 + 4) = 272 bytes: three of them are within an eighth of 7 KiB.
    using pool = new PagePool(device, { pageBytes: 64, slabBytes: 7168 });
    expect((await segmentsOf({ pool })).segments).toBe(5);
    // Slots leave from the front, and their pages with them.
    expect((await segmentsOf({ method: slidingWindow({ tokens: 50 }) })).segments).toBe(11);
  });

  it("outlives its handle for the caches on it", async () => {
    const pool = new PagePool(device);
    const prompt = makePrompt(shape, 9);
    using cache = await filledCache(device, prompt, { pool });
    const contents = await contentsOf(cache);
    pool.dispose();
    pool.dispose();
    expect(() => pool.stats()).toThrowError(
      expect.objectContaining({ code: "ERR_SPINDLEKV_DISPOSED" }),
    );
    expect(await contentsOf(cache)).toBe(contents);
    await feed(cache, prompt);
    expect(() => new KVCache(device, { ...shape, pool })).toThrowError(
      expect.objectContaining({ code: "ERR_SPINDLEKV_DISPOSED" }),
    );
  });

  it("refuses sizes that are no pages", () => {
    const bad: [object, string][] = [
      [{ pageBytes: 0 }, "pageBytes"],
      [{ pageBytes: 100 }, "pageBytes"],
      [{ pageBytes: 64.5 }, "pageBytes"],
      [{ pageBytes: 256, slabBytes: 300 }, "slabBytes"],
      [{ slabBytes: 0 }, "slabBytes"],
      [{ slabBytes: Number.NaN }, "slabBytes"],
    ];
    for (const [options, param] of bad) {
      expect(() => new PagePool(device, options), JSON.stringify(options)).toThrowError(
        expect.objectContaining({ code: "ERR_SPINDLEKV_ARGUMENT", op: "PagePool", param }),
      );
    }
    expect(() => new PagePool({} as never)).toThrowError(
      expect.objectContaining({ code: "ERR_SPINDLEKV_ARGUMENT", param: "device" }),
    );
  });
});
