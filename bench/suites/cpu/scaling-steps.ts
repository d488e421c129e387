/** A whole step of decode, eviction included, through caches of methods that evict in different ways. */
import {
  full,
  h2o,
  KVCache,
  type KVCacheOptions,
  type Method,
  snapKV,
  streamingLLM,
} from "spindlekv";
import { contest } from "../../harness/contest.ts";
import { feedPrompt } from "./feed-prompt.ts";
import { type CpuJob, scheduleOf } from "./job.ts";

const kSlots = 16384;
const kQuickSlots = 2048;
const kKeep = 0.2;
/** Queries of the prompt that attend, which is what the scorers need. */
const kWindow = 32;

const shape = { layers: 4, queryHeads: 16, kvHeads: 4, headDim: 128 };

/** When each evicts: never, after the prompt, with every token, every 64 tokens, as tokens are appended. */
const methods: Readonly<Record<string, Method>> = {
  full: full(),
  snapKV: snapKV({ keep: kKeep }),
  h2o: h2o({ keep: kKeep }),
  "h2o, every 64": h2o({ keep: kKeep, schedule: { every: 64 } }),
  streamingLLM: streamingLLM({ keep: kKeep }),
};

export const scalingStepsJob: CpuJob = {
  name: "scaling-steps",
  op: "KVCache",
  what:
    `one token through all layers of a cache, f16, by \`step\` and then \`maintain\`: methods at ${kKeep} of a prompt of ` +
    "16k tokens against full()",
  async run(run) {
    const { device, bench, context } = run;
    const slots = context.quick ? kQuickSlots : kSlots;
    const { layers, queryHeads, kvHeads, headDim } = shape;
    const options: KVCacheOptions = { ...shape, rope: { theta: 500_000, style: "norm" } };
    const token = {
      k: bench.normals(layers * kvHeads * headDim),
      v: bench.normals(layers * kvHeads * headDim),
      q: bench.normals(layers * queryHeads * headDim),
      out: new Float32Array(layers * queryHeads * headDim),
    };
    const caches = Object.values(methods).map(
      (method) => new KVCache(device, { ...options, method }),
    );
    const rows = () => bench.normals(kvHeads * slots * headDim);
    feedPrompt(bench, caches, { slots, window: kWindow, rows });
    for (const cache of caches) await cache.compress();
    const arms = Object.keys(methods).map((name, i) => {
      const cache = caches[i];
      const step = () => {
        cache.step(token);
        return cache.maintain();
      };
      return { name, runs: [step], bytes: cache.stats().bytes.total };
    });
    const setting = await contest({
      ...run,
      abilities: ["read"],
      setting: {
        shape: "step-16k",
        sizes: { ...shape, slots },
        bytes: arms[0].bytes,
        flops: 4 * layers * queryHeads * slots * headDim,
        facts: { keep: kKeep },
      },
      arms,
      schedule: scheduleOf(run, { rounds: 60, repeats: 4, warmUp: 3, seconds: 20 }),
    });
    for (const cache of caches) cache.dispose();
    return { settings: [setting], goals: [] };
  },
};
