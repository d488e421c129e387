import type { Tensor } from "../tensor.js";
import type { PlannedLayer } from "./commit-plan.js";
import type { Thetas } from "./rewrite.js";

/** What a trial found out about a layer's selected slots: which rows lead the codewords, and whose each slot is. */
export interface LayerCover {
  /** i32: per head labels and leaders of K, then of V, each [encoded slots]. */
  readonly lists: Tensor;
  /** [kvHeads, 2]: codewords of K and V. */
  readonly codewords: readonly number[];
}

interface KnownCover {
  readonly key: string;
  readonly cover: LayerCover;
}

/** The covers of the layers in the last trial that fitted, so that its slots need not be compared again. */
export class LayerCovers implements Disposable {
  #fitting = new Map<number, KnownCover>();
  #trial = new Map<number, KnownCover>();

  get(planned: PlannedLayer, thetas: Thetas): LayerCover | undefined {
    const found = this.#fitting.get(planned.layer);
    return found?.key === keyOf(planned, thetas) ? found.cover : undefined;
  }

  /** Of the trial under way. Takes over the cover's tensor. */
  set(planned: PlannedLayer, thetas: Thetas, cover: LayerCover): void {
    this.#trial.get(planned.layer)?.cover.lists.dispose();
    this.#trial.set(planned.layer, { key: keyOf(planned, thetas), cover });
  }

  /** The trial is over: its covers stay if it fits, else those before. */
  settle(fits: boolean): void {
    disposeAll(fits ? this.#fitting : this.#trial);
    if (fits) this.#fitting = this.#trial;
    this.#trial = new Map();
  }

  [Symbol.dispose](): void {
    disposeAll(this.#fitting);
    disposeAll(this.#trial);
  }
}

function disposeAll(covers: Map<number, KnownCover>): void {
  for (const { cover } of covers.values()) cover.lists.dispose();
  covers.clear();
}

function keyOf({ plan }: PlannedLayer, { k, v }: Thetas): string {
  return `${k} ${v} ${plan}`;
}
