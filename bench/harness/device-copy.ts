/** The yardstick of a GPU: keys and values copied as they are from one place of its memory to another, by appendKv. */
import { type AppendKvParams, appendKv } from "spindlekv";
import { times } from "./case.ts";
import type { Contestant, Samples } from "./interleave.ts";
import type { Ability, Yardstick } from "./machine.ts";
import type { Workbench } from "./workbench.ts";

const kSlots = 32768;
const kHeads = 32;
const kHeadDim = 128;
const kGiga = 1e9;

export class DeviceCopy implements Yardstick {
  readonly way: string;
  readonly #bench: Workbench;
  readonly #bytes: number;
  readonly #params: AppendKvParams;

  /**
   * @param bench owns the memory
   * @param slots of each of 32 KV heads; by default 1 GiB is moved, far more than the cache of any GPU
   */
  constructor(bench: Workbench, slots = kSlots) {
    this.#bench = bench;
    // K and V rows of 2 bytes an element are read and written.
    this.#bytes = 2 * 2 * 2 * kHeads * slots * kHeadDim;
    this.way = `raw f16 rows by appendKv, ${(this.#bytes / 2 ** 20).toFixed(0)} MiB a call`;
    this.#params = {
      items: times(kHeads, () => ({
        k: bench.normalF16([slots, kHeadDim]),
        v: bench.normalF16([slots, kHeadDim]),
        firstPosition: 0,
        dst: bench.emptyRun(slots, kHeadDim),
      })),
    };
  }

  probes(abilities: readonly Ability[]): Contestant[] {
    const run = async () => {
      appendKv(this.#params);
      await this.#bench.device.synchronize();
    };
    return abilities.filter((name) => name === "copy").map((name) => ({ name, run }));
  }

  rates(samples: Samples, ability: Ability): number[] {
    return (samples.get(ability) ?? []).map(([seconds]) => this.#bytes / kGiga / seconds);
  }

  async dispose(): Promise<void> {}
}
