// What forks share of a compression: similarity graphs, made once and freed by the last owner.
import { describe, expect, it } from "vitest";
import { SimilarityMemo } from "../../lib/cache/similarity-memo.ts";
import { openDevice, Tensor } from "../harness/api.ts";

const device = await openDevice("cpu");
const graphs = async () => [Tensor.zeros(device, "u64", [2, 1])];

describe("SimilarityMemo", () => {
  it("builds once, whoever asks and however often", async () => {
    const memo = new SimilarityMemo();
    let builds = 0;
    const build = () => {
      builds += 1;
      return graphs();
    };
    const [a, b] = await Promise.all([memo.get("0", 16, build), memo.get("0", 16, build)]);
    expect(await memo.get("0", 16, build)).toBe(a);
    expect(b).toBe(a);
    expect(builds).toBe(1);
    memo.release();
  });

  it("a failed build fails its own caller alone", async () => {
    const memo = new SimilarityMemo();
    const failure = new Error("aborted");
    const failing = memo.get("0", 16, () => Promise.reject(failure));
    const waiting = [memo.get("0", 16, graphs), memo.get("0", 16, graphs)];
    await expect(failing).rejects.toBe(failure);
    const [a, b] = await Promise.all(waiting);
    expect(a).toBe(b);
    expect(a[0].disposed).toBe(false);
    memo.release();
  });

  it("takes graphs up to its size, and again what failed or was known", async () => {
    const memo = new SimilarityMemo();
    const half = 2 ** 30;
    const admits = (key: string, bytes: number) => memo.admits(key, bytes, bytes);
    expect(admits("0", 2 * half)).toBe(true);
    expect(admits("0", 2 * half + 1)).toBe(false);
    await memo.get("0", half, graphs);
    await expect(memo.get("1", half, () => Promise.reject(new Error("no")))).rejects.toThrow("no");
    expect(admits("1", half)).toBe(true);
    await memo.get("1", half, graphs);
    expect([admits("0", half), admits("2", 1)]).toEqual([true, false]);
    memo.release();
    expect(admits("2", 1)).toBe(true);
  });

  it("takes large graphs only for trials of many slots, unless they are there", async () => {
    const memo = new SimilarityMemo();
    const [small, large] = [2 ** 24, 2 ** 25];
    expect(memo.admits("0", small, 0)).toBe(true);
    expect(memo.admits("0", large, large / 2 - 1)).toBe(false);
    expect(memo.admits("0", large, large / 2)).toBe(true);
    await memo.get("0", large, graphs);
    expect(memo.admits("0", large, 0)).toBe(true);
    memo.release();
  });

  it("the last owner's release frees, also what is still being built", async () => {
    const memo = new SimilarityMemo();
    const [graph] = await memo.get("0", 16, graphs);
    let finish = (_: Tensor[]) => {};
    const late = Tensor.zeros(device, "u64", [1, 1]);
    const pending = memo.get("1", 16, () => new Promise<Tensor[]>((resolve) => (finish = resolve)));
    memo.retain();
    memo.release();
    expect(graph.disposed).toBe(false);
    memo.release();
    finish([late]);
    await pending;
    await Promise.resolve();
    expect([graph.disposed, late.disposed]).toEqual([true, true]);
    expect(memo.isEmpty).toBe(true);
  });
});
