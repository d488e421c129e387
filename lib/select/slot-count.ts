import { argumentError } from "../errors.js";

/** A number of slots given as an option: an integer of 0 or more, or a clear error. */
export function slotCount(op: string, name: string, value: number): number {
  if (!Number.isInteger(value) || value < 0) {
    throw argumentError(op, "an integer of 0 or more", name, value);
  }
  return value;
}
