/** A decode step through caches that SpindleKV compressed, against the same caches whole. */
import { KVCache, type KVCacheOptions, full, spindleKV } from "spindlekv";
import { kAlikeShares, layeredRows } from "../../cases/layered-rows.ts";
import { contest } from "../../harness/contest.ts";
import { goalOf } from "../../harness/goal.ts";
import { feedPrompt } from "./feed-prompt.ts";
import { type CpuJob, scheduleOf } from "./job.ts";

const kSlots = 32768;
const kQuickSlots = 2048;
const kKeep = 0.2;
/** Queries that the method ranks by. */
const kWindow = 32;

// Four layers of two KV heads do the work of one layer of eight; codebooks of 64 heads would take minutes.
const shape = { layers: kAlikeShares.length, queryHeads: 8, kvHeads: 2, headDim: 128 };

/** Slots and codewords that are left, summed over heads. */
function factsOf(cache: KVCache): Record<string, number> {
  const { perLayer, ratio } = cache.stats();
  const facts: Record<string, number> = { "bytes kept": ratio };
  for (const [layer, { heads }] of perLayer.entries()) {
    const sum = (of: (head: (typeof heads)[number]) => number) =>
      heads.reduce((total, head) => total + of(head), 0);
    facts[`layer ${layer} slots`] = sum((head) => head.slots);
    facts[`layer ${layer} encoded slots`] = sum((head) => head.encodedSlots);
    facts[`layer ${layer} key codewords`] = sum((head) => head.kCodewords);
    facts[`layer ${layer} value codewords`] = sum((head) => head.vCodewords);
  }
  return facts;
}

export const spindleCacheJob: CpuJob = {
  name: "spindle-cache-32k",
  op: "KVCache",
  what:
    `decode step of one token through all layers of a cache, f16: spindleKV({ keep: ${kKeep} }) against full(), ` +
    "over rows whose likeness falls with depth",
  async run(run) {
    const { device, bench, context } = run;
    const slots = context.quick ? kQuickSlots : kSlots;
    const { queryHeads, kvHeads, headDim, layers } = shape;
    const options: KVCacheOptions = { ...shape, rope: { theta: 500_000, style: "norm" } };
    using whole = new KVCache(device, { ...options, method: full() });
    using kept = new KVCache(device, { ...options, method: spindleKV({ keep: kKeep }) });
    const rows = (layer: number) =>
      layeredRows(bench.random, { heads: kvHeads, rows: slots, headDim }, kAlikeShares[layer]);
    feedPrompt(bench, [whole, kept], { slots, window: kWindow, rows });
    const start = performance.now();
    await kept.compress();
    const seconds = (performance.now() - start) / 1000;

    const q = bench.normals(queryHeads * headDim);
    const out = new Float32Array(q.length);
    const step = (cache: KVCache) => () => {
      for (const layer of cache.layers) layer.attend(q, out, 1);
    };
    const bytes = (cache: KVCache) => cache.stats().bytes.total;
    const setting = await contest({
      ...run,
      // Reading comes before every pair of calls and goes through more than the caches of the machine hold.
      abilities: ["read"],
      setting: {
        shape: "step",
        sizes: { ...shape, slots },
        bytes: bytes(whole),
        flops: 4 * layers * queryHeads * slots * headDim,
        facts: { ...factsOf(kept), "seconds to compress": seconds, kvHeads },
      },
      arms: [
        { name: "SpindleKV", runs: [step(kept)], bytes: bytes(kept) },
        { name: "full", runs: [step(whole)] },
      ],
      schedule: scheduleOf(run, { rounds: 60, repeats: 1, warmUp: 3, seconds: 15 }),
    });
    const what = `times faster than own full decode, keep ${kKeep}`;
    return {
      settings: [setting],
      goals: [goalOf({ what, atLeast: 3.5 }, setting.arms[1].ratioToFirst!)],
    };
  },
};
