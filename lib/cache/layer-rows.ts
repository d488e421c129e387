import { Tensor } from "../tensor.js";
import type { CompressionJob } from "./compression-job.js";
import { type StoreLayerInfo, storeAddon } from "./native-store.js";

/**
 * K and V rows before RoPE of one layer of a job after the other, in the same memory: every trial of a budget reads the
 * layers again, and fresh memory costs more than the copy.
 */
export class LayerRows implements Disposable {
  readonly #job: CompressionJob;
  readonly #all: Tensor[] = [];
  #views: Tensor[] = [];

  constructor(job: CompressionJob) {
    this.#job = job;
  }

  /** [k0, v0, k1, v1, ...] of the layer's heads, each [slots, headDim]; until the next read. */
  async read(layer: number): Promise<readonly Tensor[]> {
    const { cache, infos } = this.#job;
    this.#disposeViews();
    for (const [head, { slots }] of (infos[layer] as StoreLayerInfo).heads.entries()) {
      const [k, v] = [this.#view(2 * head, slots), this.#view(2 * head + 1, slots)];
      await storeAddon().storeReadRaw(cache, { layer, head, k, v });
    }
    return this.#views;
  }

  #view(at: number, slots: number): Tensor {
    const { cache, infos } = this.#job;
    const { device } = cache;
    const { headDim, dtype = "f16" } = cache.options;
    if (this.#all[at] === undefined) {
      const head = Math.floor(at / 2);
      const most = Math.max(...infos.map(({ heads }) => heads[head]?.slots ?? 0));
      this.#all[at] = Tensor.empty(device, dtype, [most, headDim]);
    }
    const view = this.#all[at].view({ shape: [slots, headDim] });
    this.#views.push(view);
    return view;
  }

  #disposeViews(): void {
    for (const view of this.#views) view.dispose();
    this.#views = [];
  }

  [Symbol.dispose](): void {
    this.#disposeViews();
    for (const tensor of this.#all) tensor.dispose();
    this.#all.length = 0;
  }
}
