/** A warning, once per process, when a handle is collected that was never disposed. */

let hasWarned = false;

const registry = new FinalizationRegistry<string>((kind) => {
  if (hasWarned) return;
  hasWarned = true;
  process.emitWarning(
    `A ${kind} was garbage-collected without dispose(); its memory stayed in use until then. ` +
      "Call dispose() or declare it with `using`. Further cases are not reported.",
    { type: "SpindleKVLeakWarning", code: "SPINDLEKV_LEAK" },
  );
});

/** Watches a handle that owns memory; the native finaliser frees it in any case. */
export function watchForLeak(handle: object, kind: string): void {
  registry.register(handle, kind, handle);
}

/** The handle was disposed. */
export function stopWatching(handle: object): void {
  registry.unregister(handle);
}
