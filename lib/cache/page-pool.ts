import type { Device } from "../device.js";
import { type PoolStats, storeAddon } from "./native-store.js";

/** Options of {@link PagePool}. */
export interface PagePoolOptions {
  /** Granule of every allocation in bytes, a multiple of 64. Default 256: little is lost to rounding. */
  readonly pageBytes?: number;
  /** Memory taken from the device at a time, a multiple of pageBytes. Default 4 MiB. */
  readonly slabBytes?: number;
}

/**
 * Device memory that caches share: eviction gives pages back, and a slab without pages goes back to the device.
 *
 * @example
 * ```ts
 * import { openDevice, PagePool } from "spindlekv";
 *
 * const device = await openDevice("cpu");
 * using pool = new PagePool(device);
 * console.log(pool.stats().bytesUsed); // 0
 * ```
 */
export class PagePool {
  readonly device: Device;

  /**
   * @throws {SpindleKVError} ERR_SPINDLEKV_ARGUMENT when a size is not as described
   */
  constructor(device: Device, options: PagePoolOptions = {}) {
    this.device = device;
    const pageBytes = options.pageBytes ?? 256;
    storeAddon().poolCreate(this, device, {
      pageBytes,
      slabBytes: options.slabBytes ?? Math.ceil((4 << 20) / pageBytes) * pageBytes,
    });
  }

  /** What the pool holds now. @throws {SpindleKVError} ERR_SPINDLEKV_DISPOSED */
  stats(): PoolStats {
    return storeAddon().poolStats(this);
  }

  /** Gives up the handle; the memory goes when the last cache on it is disposed. Idempotent. */
  dispose(): void {
    storeAddon().poolDispose(this);
  }

  [Symbol.dispose](): void {
    this.dispose();
  }
}
