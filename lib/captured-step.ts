/** Work recorded once by `device.capture()`, and replayed. */
import type { Device } from "./device.js";
import { type AsyncOptions, runJob } from "./jobs.js";
import { stopWatching, watchForLeak } from "./leaks.js";
import { native } from "./native.js";

/**
 * The ops of a {@link Device.capture}: the same work on the same tensors at each replay, with what they hold then.
 * Shapes, options and host lists are those of the capture. The tensors' memory is kept until `dispose()`, even if they
 * are disposed themselves.
 */
export class CapturedStep {
  #isDisposed = false;

  /** @internal Use {@link Device.capture}. */
  constructor(device: Device) {
    native().endCapture(device, this);
    watchForLeak(this, "CapturedStep");
  }

  /** Whether {@link dispose} was called. */
  get disposed(): boolean {
    return this.#isDisposed;
  }

  /**
   * Enqueues everything again, in the order of the capture.
   *
   * @throws {SpindleKVError} ERR_SPINDLEKV_BUSY while a {@link replayAsync} of it is pending,
   *   ERR_SPINDLEKV_DISPOSED when it or its device is disposed, ERR_SPINDLEKV_UNSUPPORTED while the device captures
   *   another step, ERR_SPINDLEKV_CUDA or ERR_SPINDLEKV_DEVICE_LOST when the device failed
   */
  replay(): void {
    native().replay(this);
  }

  /**
   * {@link replay} off the event loop; resolves when the device is done.
   *
   * @throws {SpindleKVError} as {@link replay} except for ERR_SPINDLEKV_BUSY: replays queue; and ERR_SPINDLEKV_ABORTED
   *   when `options.signal` aborted it: what was written until then means nothing
   */
  replayAsync(options?: AsyncOptions): Promise<void> {
    return runJob(options, (token) => native().replayAsync(this, token));
  }

  /** Frees it once queued replays have run. Idempotent. */
  dispose(): void {
    if (this.#isDisposed) return;
    this.#isDisposed = true;
    stopWatching(this);
    native().disposeCapturedStep(this);
  }

  /** Same as {@link dispose}. */
  [Symbol.dispose](): void {
    this.dispose();
  }
}
