import type { Tensor } from "../tensor.js";

/**
 * Memory that the graphs of one cache may take; what does not fit is built anew for every trial. A head of n slots
 * takes n^2 / 4 bytes for K and V: 2 GiB is 32 heads of 16k slots.
 */
const kMemoBytes = 2 * 2 ** 30;

/** Graphs of a layer that are built whole in a moment, however few of its slots a trial asks for. */
const kSmallGraphBytes = 2 ** 24;

/**
 * Similarity graphs of a cache's raw slots, kept while its contents stay as they are: a budget search, several
 * keep values and forks of the same contents all read the same ones.
 */
export class SimilarityMemo {
  readonly #graphs = new Map<string, Promise<Tensor[]>>();
  #owners = 1;
  #bytes = 0;

  /** Another cache with the same contents uses it too. */
  retain(): this {
    this.#owners += 1;
    return this;
  }

  /** The last owner's release frees the graphs. */
  release(): void {
    this.#owners -= 1;
    if (this.#owners > 0) return;
    for (const graphs of this.#graphs.values()) {
      // A graph that failed to build has nothing to free.
      graphs.then(
        (tensors) => {
          for (const tensor of tensors) tensor.dispose();
        },
        () => undefined,
      );
    }
    this.#graphs.clear();
    this.#bytes = 0;
  }

  get isEmpty(): boolean {
    return this.#graphs.size === 0;
  }

  /**
   * Whether the graphs under `key` are there, or fit beside the others and are worth building whole: a graph takes time
   * as it takes memory, so one of half the bytes that is not kept costs the same after two trials.
   *
   * @param bytes of the whole graphs
   * @param needed bytes of the graphs of the slots that a trial selects
   */
  admits(key: string, bytes: number, needed: number): boolean {
    if (this.#graphs.has(key)) return true;
    const isWorthIt = bytes <= kSmallGraphBytes || 2 * needed >= bytes;
    return isWorthIt && this.#bytes + bytes <= kMemoBytes;
  }

  /**
   * The graphs under `key`, built by `build` if they are not there yet. A failed build is forgotten, and concerns
   * only the caller whose build it was: others who waited for it build for themselves.
   */
  async get(key: string, bytes: number, build: () => Promise<Tensor[]>): Promise<Tensor[]> {
    for (;;) {
      const known = this.#graphs.get(key);
      if (known === undefined) break;
      const graphs = await known.catch(() => undefined);
      if (graphs !== undefined) return graphs;
    }
    const made = build();
    this.#graphs.set(key, made);
    this.#bytes += bytes;
    made.catch(() => {
      if (this.#graphs.delete(key)) this.#bytes -= bytes;
    });
    return made;
  }
}
