// Ranks in worker threads: two threads with two KV heads each, sums over shared memory, keep what one thread with four
// keeps.
import { join } from "node:path";
import { pathToFileURL } from "node:url";
import { expect, it } from "vitest";
import { packageFolder, runChild, success } from "./child.ts";

const bundleUrl = pathToFileURL(join(packageFolder, "dist/index.mjs")).href;

/** What a thread does: fills a cache with its heads of a made-up prompt, compresses, decodes, and tells what it keeps. */
const keepHeads = `
  const layers = 3, tokens = 100, steps = 6, headDim = 16, kvHeads = 4, queryHeads = 8;
  // Numbers in [-1, 1) that follow from their place alone, so that every thread makes the same prompt.
  const at = (...place) => {
    let hash = 2166136261;
    for (const part of place) hash = Math.imul(hash ^ (part + 1), 16777619) ^ (hash >>> 13);
    hash = Math.imul(hash ^ (hash >>> 16), 0x85ebca6b);
    return ((hash ^ (hash >>> 15)) >>> 0) / 2 ** 31 - 1;
  };
  const rows = (kind, layer, first, heads, from, to) => {
    const values = new Float32Array(heads * (to - from) * headDim);
    let i = 0;
    for (let head = first; head < first + heads; head++) {
      for (let token = from; token < to; token++) {
        for (let d = 0; d < headDim; d++) {
          values[i++] = 3 * at(kind, layer, head, token, d);
        }
      }
    }
    return values;
  };
  async function keep(spindlekv, makeMethod, group) {
    const { KVCache, openDevice, readStoredSlots } = spindlekv;
    const device = await openDevice("cpu");
    const { rank = 0, size = 1 } = group ?? {};
    const own = { kv: kvHeads / size, query: queryHeads / size };
    const cache = new KVCache(device, {
      layers, headDim, kvHeads: own.kv, queryHeads: own.query,
      method: makeMethod(spindlekv),
      ...(group === undefined ? {} : { ranks: group }),
    });
    const pass = async (from, to) => {
      for (const layer of cache.layers) {
        const part = (kind, heads) => rows(kind, layer.index, rank * heads, heads, from, to);
        layer.append(part(0, own.kv), part(1, own.kv), to - from);
        const q = part(2, own.query);
        await layer.attend(q, new Float32Array(q.length), to - from);
      }
    };
    await pass(0, tokens);
    for (const layer of cache.layers) {
      const cosine = [0.4, 0.9, 0.6][layer.index];
      layer.observe(Float32Array.of(1, 0), Float32Array.of(cosine, Math.sqrt(1 - cosine ** 2)), 1);
    }
    await cache.compress();
    for (let token = tokens; token < tokens + steps; token++) {
      await pass(token, token + 1);
      await cache.maintain();
    }
    const kept = [];
    for (let layer = 0; layer < layers; layer++) {
      kept.push([]);
      for (let head = 0; head < own.kv; head++) {
        kept[layer].push(Array.from((await readStoredSlots(cache, layer, head)).positions));
      }
    }
    const bytes = cache.stats().bytes.total;
    cache.dispose();
    device.dispose();
    return { kept, bytes };
  }
`;

/** Sums over threads: everyone writes its numbers, the last one wakes the others, everyone adds up all. */
const rankThread = `
  import { parentPort, workerData } from "node:worker_threads";
  import * as spindlekv from ${JSON.stringify(bundleUrl)};
  ${keepHeads}
  const { rank, size, most, shared, method } = workerData;
  const numbers = new Float64Array(shared.numbers);
  const [ARRIVED, DONE] = [0, 1];
  const control = new Int32Array(shared.control);
  let round = 0;
  let longest = 0;
  const allReduce = async (values) => {
    round += 1;
    longest = Math.max(longest, values.length);
    // Two halves in turn: nobody writes to one before everyone has read what was in it.
    const half = (round % 2) * size * most;
    numbers.set(values, half + rank * most);
    if (Atomics.add(control, ARRIVED, 1) + 1 === size * round) {
      Atomics.store(control, DONE, round);
      Atomics.notify(control, DONE);
    }
    for (let done = Atomics.load(control, DONE); done < round; done = Atomics.load(control, DONE)) {
      await Atomics.waitAsync(control, DONE, done).value;
    }
    return values.map((_, i) => {
      let sum = 0;
      for (let other = 0; other < size; other++) sum += numbers[half + other * most + i];
      return sum;
    });
  };
  const alive = setInterval(() => undefined, 1000); // waiting for an atomic does not keep a thread running
  const result = await keep(spindlekv, eval(method), { rank, size, allReduce });
  clearInterval(alive);
  parentPort.postMessage({ ...result, longest, rounds: round });
`;

const methods: Record<string, string> = {
  zigzagKV: "zigzagKV({ keep: 0.4, window: 8 })",
  adaKV: "adaKV({ keep: 0.4, window: 8 })",
  cake: "cake({ keep: 0.4, window: 8 })",
  lava: "lava({ tokens: 30, window: 8 })",
  dynamicKV: "dynamicKV({ tokens: 30, window: 8 })",
  prefixKV: 'prefixKV({ keep: 0.4, scope: "kv-head" })',
  squeezeAttention: 'squeezeAttention({ keep: 0.4, policy: "h2o" })',
  h2o: "h2o({ bytes: 12000 })",
};

for (const [name, call] of Object.entries(methods)) {
  it(`two worker threads keep what one keeps: ${name}`, async () => {
    const result = await runChild(`
      import { Worker } from "node:worker_threads";
      import { once } from "node:events";
      ${keepHeads}
      const method = ${JSON.stringify(`(spindlekv) => spindlekv.${call}`)};
      const size = 2, most = 4096;
      const shared = {
        numbers: new SharedArrayBuffer(8 * 2 * size * most),
        control: new SharedArrayBuffer(8),
      };
      const thread = new URL("data:text/javascript," + encodeURIComponent(${JSON.stringify(rankThread)}));
      const ranks = await Promise.all([0, 1].map(async (rank) => {
        const worker = new Worker(thread, { workerData: { rank, size, most, shared, method } });
        return (await once(worker, "message"))[0];
      }));
      const alone = await keep(spindlekv, eval(method));
      console.log(JSON.stringify({ alone, ranks }));
    `);
    expect(result).toMatchObject(success);
    const { alone, ranks } = JSON.parse(result.stdout);
    const joined = alone.kept.map((_: unknown, layer: number) => [
      ...ranks[0].kept[layer],
      ...ranks[1].kept[layer],
    ]);
    expect(joined).toEqual(alone.kept);
    expect(ranks[0].bytes + ranks[1].bytes).toBe(alone.bytes);
    expect(alone.kept.flat().every((slots: number[]) => slots.length < 106)).toBe(true);
    expect(ranks[0].rounds).toBe(ranks[1].rounds);
    expect(ranks[0].longest).toBeLessThanOrEqual(3 * 260);
  });
}
