/** Jobs that run off the event loop: options they share, and how an AbortSignal reaches them. */
import { SpindleKVError } from "./errors.js";
import { native } from "./native.js";

/** Options of every call that returns a promise of work done elsewhere. */
export interface AsyncOptions {
  /** Stops the call; it then rejects with ERR_SPINDLEKV_ABORTED and the signal's reason as cause. */
  readonly signal?: AbortSignal | undefined;
}

/** A flag in native memory that running jobs poll. */
export class CancelToken {
  constructor() {
    native().attachCancelToken(this);
  }

  /** Stops the jobs that were given this token, as soon as they look. */
  cancel(): void {
    native().cancel(this);
  }
}

/** A signal on its way into native code. */
export interface Cancellation {
  /** To be given to the native call; undefined without a signal. */
  readonly token: CancelToken | undefined;
  /** Waits for a job with this token; an abort carries the signal's reason as cause. */
  raced<T>(job: Promise<T>): Promise<T>;
  /** Stops listening to the signal. */
  dispose(): void;
}

/** A token that is raised when `signal` aborts, or at once if it has. Dispose it after the last job. */
export function createCancelToken(signal?: AbortSignal): Cancellation {
  if (signal === undefined) {
    return { token: undefined, raced: (job) => job, dispose: () => undefined };
  }
  const token = new CancelToken();
  const raise = () => token.cancel();
  if (signal.aborted) raise();
  else signal.addEventListener("abort", raise, { once: true });
  return {
    token,
    dispose: () => signal.removeEventListener("abort", raise),
    raced: (job) =>
      job.catch((error: unknown) => {
        throw withReason(error, signal);
      }),
  };
}

function withReason(error: unknown, signal: AbortSignal): unknown {
  const isAbort = error instanceof SpindleKVError && error.code === "ERR_SPINDLEKV_ABORTED";
  if (!isAbort || !signal.aborted || error.cause !== undefined) return error;
  const { code, op, message } = error;
  return new SpindleKVError({ code, op, message, cause: signal.reason });
}

/**
 * Runs one job under `options.signal`. Whatever goes wrong rejects the promise.
 *
 * @internal
 */
export async function runJob(
  options: AsyncOptions | undefined,
  start: (token: CancelToken | undefined) => Promise<void>,
): Promise<void> {
  const cancellation = createCancelToken(options?.signal);
  try {
    await cancellation.raced(start(cancellation.token));
  } finally {
    cancellation.dispose();
  }
}
