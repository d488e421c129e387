/**
 * The error class of the library. Codes are part of the API; messages are not.
 *
 * Every message reads `op: expected <what> for <param>, got <value>`. Failures found in TypeScript and
 * in native code use the same class; the native side makes its errors through `createNativeError`.
 */

/** Every error code with what it means: the list of core/error_codes.def. */
export const errorCodes = {
  ERR_SPINDLEKV_ARGUMENT: "An argument has the wrong type, shape, dtype, range or name.",
  ERR_SPINDLEKV_MISSING_INPUT:
    "A part of the method needs an input that the cache or the runtime does not give.",
  ERR_SPINDLEKV_UNSUPPORTED:
    "The combination is valid but this backend does not do it; the message lists what it does.",
  ERR_SPINDLEKV_DISPOSED: "The handle was disposed before the call.",
  ERR_SPINDLEKV_OUT_OF_MEMORY:
    "Memory for the call could not be had; the message says how much was asked.",
  ERR_SPINDLEKV_ABORTED: "The call was stopped by its AbortSignal; nothing changed.",
  ERR_SPINDLEKV_BUSY:
    "The cache or captured step is in an asynchronous call; await that call first.",
  ERR_SPINDLEKV_NON_FINITE:
    "Keys, values or queries hold NaN or infinity where the method ranks by them.",
  ERR_SPINDLEKV_WRONG_DEVICE: "A handle belongs to another device or environment than the call.",
  ERR_SPINDLEKV_CUDA: "The CUDA runtime reported an error.",
  ERR_SPINDLEKV_DEVICE_LOST:
    "An earlier CUDA error made the device unusable; the cause names the first failing op.",
  ERR_SPINDLEKV_NO_DEVICE: "The device asked for is not there; the message says why.",
  ERR_SPINDLEKV_NO_BINARY: "The native addon or a backend library could not be loaded.",
  ERR_SPINDLEKV_FILE:
    "A file could not be read or written, or its contents are not what its format says.",
  ERR_SPINDLEKV_INTERNAL: "An invariant of the library was broken; please report it.",
} as const;

/** One of the codes of {@link errorCodes}. */
export type ErrorCode = keyof typeof errorCodes;

/** What a {@link SpindleKVError} is made of. */
export interface SpindleKVErrorOptions {
  readonly code: ErrorCode;
  /** The function that failed, by its name in TypeScript. */
  readonly op: string;
  /** The whole message, with the op in front. */
  readonly message: string;
  /** What led to this error: another error, or the reason of an AbortSignal. */
  readonly cause?: unknown;
  /** `cudaError_t` or `errno` where there is one; 0 otherwise. */
  readonly nativeCode?: number;
}

const templateOfMessages = /expected (.+?) for ([\w.[\]]+), got (.*)$/s;

/** Any failure of this library. */
export class SpindleKVError extends Error {
  override readonly name = "SpindleKVError";
  /** Stable identifier of the kind of failure; documented in docs/errors.md. */
  readonly code: ErrorCode;
  /** The function that failed, such as `attend`. */
  readonly op: string;
  /** What was expected, where the failure is about a value. */
  readonly expected: string | undefined;
  /** What came instead. */
  readonly actual: string | undefined;
  /** The parameter that the failure is about, such as `heads[0][1].positions`. */
  readonly param: string | undefined;
  /** `cudaError_t` or `errno` where there is one; 0 otherwise. */
  readonly nativeCode: number;

  constructor({ code, op, message, cause, nativeCode = 0 }: SpindleKVErrorOptions) {
    super(message, cause === undefined ? undefined : { cause });
    this.code = code;
    this.op = op;
    this.nativeCode = nativeCode;
    const parts = templateOfMessages.exec(message);
    this.expected = parts?.[1];
    this.param = parts?.[2];
    this.actual = parts?.[3];
  }
}

/** A short rendering of any value for a message. */
export function describeValue(value: unknown): string {
  if (typeof value === "string") return JSON.stringify(value);
  if (typeof value === "bigint") return `${value}n`;
  if (typeof value === "function") return "a function";
  if (typeof value !== "object" || value === null) return String(value);
  if (Array.isArray(value)) {
    const isShort = value.length <= 8 && value.every((item) => typeof item !== "object");
    return isShort ? `[${value.join(", ")}]` : `an array of ${value.length}`;
  }
  const name: unknown = value.constructor?.name;
  return typeof name === "string" && name !== "Object" ? `a ${name}` : "an object";
}

/** An `ERR_SPINDLEKV_ARGUMENT`: `op: expected <expected> for <param>, got <actual>`. */
export function argumentError(
  op: string,
  expected: string,
  param: string,
  actual: unknown,
): SpindleKVError {
  const message = `${op}: expected ${expected} for ${param}, got ${describeValue(actual)}`;
  return new SpindleKVError({ code: "ERR_SPINDLEKV_ARGUMENT", op, message });
}

/** An error of any code; `op: ` is put in front of the message unless it is there already. */
export function spindleError(
  code: ErrorCode,
  op: string,
  message: string,
  cause?: unknown,
): SpindleKVError {
  const text = message.startsWith(`${op}: `) ? message : `${op}: ${message}`;
  return new SpindleKVError({ code, op, message: text, cause });
}

const camelCase = (name: string) =>
  name.replaceAll(/_([a-z])/g, (_, letter: string) => letter.toUpperCase());

/**
 * Makes the error of a failed native call. Native code names ops and parameters in snake_case.
 *
 * @internal
 */
export function createNativeError(
  code: ErrorCode,
  nativeOp: string,
  text: string,
  nativeCode: number,
  cause: unknown,
): SpindleKVError {
  const op = camelCase(nativeOp);
  const named = text.replace(
    templateOfMessages,
    (_, expected: string, param: string, actual: string) =>
      `expected ${expected} for ${camelCase(param)}, got ${actual}`,
  );
  return new SpindleKVError({ code, op, message: `${op}: ${named}`, nativeCode, cause });
}
