/** How this runtime fails: the message says what was expected and what came. */
import { type SpindleKVError, spindleError } from "../../errors.js";

/** A model file that cannot be read or is not what its format says: ERR_SPINDLEKV_FILE. */
export function fileError(message: string, options: { cause?: unknown } = {}): SpindleKVError {
  return spindleError("ERR_SPINDLEKV_FILE", "gguf-llama", message, options.cause);
}

/** A call with a wrong argument: ERR_SPINDLEKV_ARGUMENT. */
export function callError(message: string): SpindleKVError {
  return spindleError("ERR_SPINDLEKV_ARGUMENT", "gguf-llama", message);
}
