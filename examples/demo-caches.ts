/** Connects the demo's trials to the library: which cache is opened, which method a name stands for. */
import {
  type Device,
  full,
  KVCache,
  type Method,
  openDevice,
  pyramidKV,
  slidingWindow,
  snapKV,
  spindleKV,
  streamingLLM,
} from "spindlekv";
import type { TrialCache, TrialChoice } from "spindlekv/eval";
import type { LlamaConfig } from "spindlekv/runtimes/gguf-llama";
import type { DemoDevice } from "./demo-options.ts";

/** Opens caches on one device. */
export interface TrialCaches {
  /** The device in words. */
  readonly device: string;
  /** Why it is not a CUDA device, where one was looked for. */
  readonly cudaUnavailable: string | undefined;
  readonly open: () => TrialCache;
  readonly dispose: () => void;
}

/** Queries kept for the forks' scorers: the observation window of every method here. */
const kRecordedQueries = 32;

/** Opens the device; "auto" takes CUDA when it is usable, else the CPU, and the description says why. */
export async function openTrialCaches(name: DemoDevice, config: LlamaConfig): Promise<TrialCaches> {
  const device = await openDevice(name === "auto" ? undefined : name);
  const open = () =>
    new KVCache(device, {
      layers: config.layers,
      queryHeads: config.queryHeads,
      kvHeads: config.kvHeads,
      headDim: config.headDim,
      dtype: "f16",
      rope: config.rope,
      method: full(),
      preRopeKeys: true, // the forks' codebooks compare keys before rotation
      recordQueries: kRecordedQueries,
    });
  return {
    device: describe(device),
    cudaUnavailable: device.info().cudaUnavailable,
    open: () => trialCache(open()),
    dispose: () => device.dispose(),
  };
}

function describe(device: Device): string {
  const { name, threads } = device.info();
  return `${device.name} (${name}, ${threads} threads)`;
}

function trialCache(cache: KVCache): TrialCache {
  return {
    layers: cache.layers,
    fork: (choice) =>
      trialCache(cache.fork(choice === undefined ? {} : { method: methodOf(choice) })),
    compress: async () => {
      await cache.compress();
    },
    stats: () => {
      const { bytes, perLayer } = cache.stats();
      return { total: bytes.total, perLayer: perLayer.map((layer) => layer.bytes) };
    },
    dispose: () => cache.dispose(),
  };
}

function methodOf({ method, keep }: TrialChoice): Method {
  if (method === "full") return full();
  if (method === "codebooks") return spindleKV({ keep: 1, theta: "fixed" }); // everything fits, nothing goes
  const factory = targeted[method];
  if (factory === undefined || keep === null) {
    throw new Error(`demo: expected a method with a keep value, got ${method} with ${keep}`);
  }
  return factory({ keep });
}

const targeted: Record<string, (options: { keep: number }) => Method> = {
  "sliding-window": slidingWindow,
  "streaming-llm": streamingLLM,
  "snap-kv": snapKV,
  "pyramid-kv": pyramidKV,
  "spindle-kv-paper": spindleKV.paper,
  "spindle-kv": spindleKV,
};
