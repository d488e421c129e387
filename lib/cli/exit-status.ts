/** Exit statuses: one per kind of failure, so that scripts can tell them apart. docs/cli.md lists them. */
import { type ErrorCode, SpindleKVError, type SpindleKVErrorOptions } from "../errors.js";

/** The statuses with what they mean, as `--help` prints them. */
export const exitStatuses = {
  ok: { status: 0, meaning: "done" },
  usage: { status: 2, meaning: "unknown command, flag, method or option; a value out of range" },
  file: { status: 3, meaning: "the input cannot be read, is truncated or is not safetensors" },
  input: { status: 4, meaning: "a tensor or metadata is missing, or has a wrong shape or dtype" },
  nonFinite: { status: 5, meaning: "NaN or infinity where the method ranks or encodes" },
  device: { status: 6, meaning: "the device is not available" },
  other: { status: 7, meaning: "anything else: out of memory, the output cannot be written, ..." },
} as const;

/** The kinds of endings. */
export type ExitKind = keyof typeof exitStatuses;

const kindOfCode: Partial<Record<ErrorCode, ExitKind>> = {
  ERR_SPINDLEKV_ARGUMENT: "usage",
  ERR_SPINDLEKV_FILE: "file",
  ERR_SPINDLEKV_MISSING_INPUT: "input",
  ERR_SPINDLEKV_NON_FINITE: "nonFinite",
  ERR_SPINDLEKV_NO_DEVICE: "device",
  ERR_SPINDLEKV_NO_BINARY: "device",
};

/** A failure whose kind does not follow from its code: the same code means another thing elsewhere. */
export class CommandFailure extends SpindleKVError {
  readonly kind: ExitKind;

  constructor(kind: ExitKind, options: SpindleKVErrorOptions) {
    super(options);
    this.kind = kind;
  }
}

/** What an error ends the process with, and the code to show. */
export function endingOf(error: unknown): { status: number; code: ErrorCode } {
  if (error instanceof SpindleKVError) {
    const kind = error instanceof CommandFailure ? error.kind : (kindOfCode[error.code] ?? "other");
    return { status: exitStatuses[kind].status, code: error.code };
  }
  // What the engine throws when an array does not fit into memory.
  const isOutOfMemory = error instanceof RangeError && /alloc|array length/i.test(error.message);
  const code = isOutOfMemory ? "ERR_SPINDLEKV_OUT_OF_MEMORY" : "ERR_SPINDLEKV_INTERNAL";
  return { status: exitStatuses.other.status, code };
}

/** The output of a command that cannot be written. */
export function outputFailure(op: string, path: string, error: unknown): CommandFailure {
  const reason = error instanceof Error ? error.message : String(error);
  return new CommandFailure("other", {
    code: "ERR_SPINDLEKV_FILE",
    op,
    message: `${op}: expected a writable file for output, got ${JSON.stringify(path)}: ${reason}`,
    cause: error,
  });
}
