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
/** K and V rows of 2 bytes an element read and written: 1 GiB, far more than the cache of any GPU. */
const kBytes = 2 * 2 * 2 * kHeads * kSlots * kHeadDim;

export class DeviceCopy implements Yardstick {
  readonly way = "raw f16 rows by appendKv, 1 GiB a call";
  readonly #bench: Workbench;
  readonly #params: AppendKvParams;

  /** @param bench owns the memory */
  constructor(bench: Workbench) {
    this.#bench = bench;
    const rows = bench.normalF16([kSlots, kHeadDim]);
    const source = times(kHeads, () => {
      const k = bench.zeros("f16", [kSlots, kHeadDim]);
      return { k, v: bench.zeros("f16", [kSlots, kHeadDim]) };
    });
    this.#params = {
      items: source.map(({ k, v }, head) => ({
        k: head === 0 ? rows : k,
        v,
        firstPosition: 0,
        dst: bench.emptyRun(kSlots, kHeadDim),
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
    return (samples.get(ability) ?? []).map(([seconds]) => kBytes / kGiga / seconds);
  }

  async dispose(): Promise<void> {}
}
