// Sums of attention follow the slots that stay, and give back room that they no longer need.
import { expect, it } from "vitest";
import { AttentionSums, type KeptIndices } from "../../lib/cache/attention-sums.ts";
import { h2o, KVCache } from "../../lib/index.ts";
import { describeOp } from "../harness/backends.ts";
import { Prng } from "../harness/prng.ts";
import { feed, makePrompt } from "./fixtures.ts";

const shape = { layers: 3, kvHeads: 2, rows: 4 };

describeOp("attention sums", (_backend, device) => {
  /** A number of its own for every place. */
  const at = (layer: number, row: number, slot: number) => 1 + slot + 10_000 * (row + 10 * layer);

  function filled(slots: readonly number[]): AttentionSums {
    const sums = new AttentionSums(device, shape, "query-head");
    sums.reserve(Math.max(...slots));
    slots.forEach((count, layer) => {
      using view = sums.view(layer, count);
      const places = Array.from({ length: shape.rows }, (_, row) =>
        Array.from({ length: count }, (_, slot) => at(layer, row, slot)),
      );
      view.write(places.flat());
    });
    return sums;
  }

  function keptOf(layer: number, heads: readonly (readonly number[])[]): KeptIndices {
    const counts = heads.map(({ length }) => length);
    const stride = Math.max(...counts) + 3;
    const indices = new Int32Array(heads.length * stride).fill(-1);
    for (const [head, slots] of heads.entries()) indices.set(slots, head * stride);
    return { layer, indices, stride, counts };
  }

  /** Rows of a layer whose heads keep these slots, with zeros up to `length`. */
  function expected(layer: number, heads: readonly (readonly number[])[], length: number) {
    return heads.flatMap((slots, head) =>
      [2 * head, 2 * head + 1].flatMap((row) =>
        Array.from({ length }, (_, i) => (i < slots.length ? at(layer, row, slots[i]) : 0)),
      ),
    );
  }

  const everyThird = (below: number) => Array.from({ length: below / 3 }, (_, i) => 3 * i);
  const all = (count: number) => Array.from({ length: count }, (_, i) => i);

  it("stay with their slots; places behind them are 0 for those to come", () => {
    using sums = filled([300, 90, 300]);
    const heads = [everyThird(300), all(299)];
    const bytes = sums.bytes;
    const kept = sums.keeping([keptOf(0, heads), keptOf(2, [[], [7]])], [300, 90, 300]);
    expect(kept.smaller).toBeUndefined();
    {
      using before = sums.view(0, 300);
      expect(Array.from(before.readSync())).toEqual(expected(0, [all(300), all(300)], 300));
    }
    sums.replace(kept);
    expect(sums.bytes).toBe(bytes);
    using first = sums.view(0, 300);
    using second = sums.view(1, 90);
    using third = sums.view(2, 300);
    expect(Array.from(first.readSync())).toEqual(expected(0, heads, 300));
    expect(Array.from(second.readSync())).toEqual(expected(1, [all(90), all(90)], 90));
    expect(Array.from(third.readSync())).toEqual(expected(2, [[], [7]], 300));
  });

  it("stay with their slots whatever the runs of those that go", () => {
    const random = new Prng(81);
    const length = 400;
    const some = (share: number) => all(length).filter(() => random.uniform() < share);
    const without = (...gone: number[]) => all(length).filter((slot) => !gone.includes(slot));
    for (const heads of [
      [without(0), without(length - 1)],
      [without(137), without(136, 137, 200)],
      [all(length).slice(63), all(length).slice(0, 64)],
      [some(0.98), some(0.5)],
      [some(0.05), all(length)],
    ]) {
      using sums = filled([length, 1, length]);
      sums.replace(sums.keeping([keptOf(2, heads)], [length, 1, length]));
      using last = sums.view(2, length);
      expect(Array.from(last.readSync())).toEqual(expected(2, heads, length));
    }
  });

  it("move where most of their room would be left over, of untouched layers too", () => {
    using sums = filled([1300, 150, 1300]);
    const bytes = sums.bytes;
    const heads = [everyThird(300), [5, 1299]];
    const kept = [keptOf(0, heads), keptOf(2, [[1], []])];
    sums.keeping(kept, [1300, 150, 1300])[Symbol.dispose]();
    expect(sums.bytes).toBe(bytes);
    sums.replace(sums.keeping(kept, [1300, 150, 1300]));
    expect(sums.bytes).toBe(3 * 4 * 300 * 4); // twice the 150 slots of the longest head
    using first = sums.view(0, 300);
    using second = sums.view(1, 300);
    using third = sums.view(2, 300);
    expect(Array.from(first.readSync())).toEqual(expected(0, heads, 300));
    expect(Array.from(second.readSync())).toEqual(expected(1, [all(150), all(150)], 300));
    expect(Array.from(third.readSync())).toEqual(expected(2, [[1], []], 300));
  });

  it("take no more than a compressed cache needs", async () => {
    const sizes = { layers: 2, queryHeads: 2, kvHeads: 1, headDim: 8, dtype: "f16" } as const;
    using cache = new KVCache(device, { ...sizes, method: h2o({ tokens: 20 }) });
    await feed(cache, makePrompt(sizes, 600), { attended: 1 });
    // One row of f32 a layer: H2O adds up over the group.
    expect(cache.stats().sumBytes).toBe(2 * 600 * 4);
    await cache.compress();
    expect(cache.stats().sumBytes).toBe(2 * 256 * 4);
  });
});
