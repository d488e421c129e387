import type { Method } from "../cache/method.js";
import { compose } from "./compose.js";

/** Everything stays, raw: the baseline that others are compared with. `compress()` does nothing. */
export function full(): Method {
  return compose({ id: "full" });
}
