/**
 * What a call costs before any work: attention of one layer over almost nothing, from TypeScript. Steady state: the
 * same tensors again and again, in a loop that V8 has optimised.
 */
import { attend, type Device, KVCache, type Run } from "spindlekv";
import { type Spread, spreadOf } from "../harness/statistics.ts";
import { Workbench } from "../harness/workbench.ts";

/** One way of calling. */
export interface CallOverhead {
  readonly call: string;
  /** Per call; one sample a round. */
  readonly microseconds: Spread;
}

export interface CallOverheadOptions {
  /** Calls of a round. Default 20,000. */
  readonly calls?: number;
  /** Default 25. */
  readonly rounds?: number;
}

/** An attention head of its own: the least that there can be to do. */
const small = { queryHeads: 1, kvHeads: 1, headDim: 64 };
/** A layer of Llama-3-8B. */
const llama = { queryHeads: 32, kvHeads: 8, headDim: 128 };

const kMicrosecondsPerNanosecond = 1e-3;

/**
 * Microseconds a call of `layer.attend` and of the op `attend` with tensors: of a layer of Llama-3-8B without a
 * query, and of a single head over one slot or none.
 *
 * @param device the CPU, opened as for the other measurements
 */
export function measureCallOverhead(
  device: Device,
  { calls = 20_000, rounds = 25 }: CallOverheadOptions = {},
): CallOverhead[] {
  using bench = new Workbench(device);
  using emptyCache = new KVCache(device, { layers: 1, ...llama });
  using smallCache = new KVCache(device, { layers: 1, ...small });
  const rows = (heads: number, tokens: number, headDim: number) =>
    bench.zeros("f16", [heads, tokens, headDim]);
  const query = rows(1, 1, small.headDim);
  const out = rows(1, 1, small.headDim);
  const noQueries = rows(llama.queryHeads, 0, llama.headDim);
  const noOut = rows(llama.queryHeads, 0, llama.headDim);
  const noRuns: Run[][] = Array.from({ length: llama.kvHeads }, () => []);
  const oneRun = [[bench.run(1, small.headDim)]];
  const [emptyLayer] = emptyCache.layers;
  const [layer] = smallCache.layers;
  layer.append(query, query);

  const arms: Record<string, () => void> = {
    "layer.attend, 32 heads, no query": () => emptyLayer.attend(noQueries, noOut),
    "layer.attend, one head, one slot": () => layer.attend(query, out),
    "attend, 32 heads, no query": () =>
      attend({ q: noQueries, out: noOut, heads: noRuns, queryPosition: 0 }),
    "attend, one head, no slot": () => attend({ q: query, out, heads: [[]], queryPosition: 0 }),
    "attend, one head, one slot": () => attend({ q: query, out, heads: oneRun, queryPosition: 0 }),
  };
  const samples = new Map(Object.keys(arms).map((call) => [call, [] as number[]]));
  const warmUp = 1;
  for (let round = -warmUp; round < rounds; round++) {
    for (const [call, run] of Object.entries(arms)) {
      const start = process.hrtime.bigint();
      for (let i = 0; i < calls; i++) run();
      const nanoseconds = Number(process.hrtime.bigint() - start) / calls;
      if (round >= 0) samples.get(call)!.push(nanoseconds * kMicrosecondsPerNanosecond);
    }
  }
  return [...samples].map(([call, values]) => ({ call, microseconds: spreadOf(values) }));
}
