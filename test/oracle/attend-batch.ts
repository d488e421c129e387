// Oracle of attend_batch: every item by itself. That items read slots together changes nothing of what they get.
import { attendOracle, type AttendResult } from "./attend.ts";
import type { QueryValues } from "./types.ts";

export function attendBatchOracle(items: readonly QueryValues[]): AttendResult[] {
  return items.map(attendOracle);
}
