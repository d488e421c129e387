/** One layer of Llama-3-8B with its decode arms, set up for a contest. */
import { attendCase, decodeShape } from "../../cases/attend.ts";
import type { Prepared } from "../../harness/case.ts";
import type { Contest } from "../../harness/contest.ts";
import { copiesOf, type JobRun } from "./job.ts";

export interface DecodeSetting extends Prepared {
  readonly copies: number;
  readonly sizes: ReturnType<typeof decodeShape>;
  readonly setting: Contest["setting"];
}

/** @param bench of the run, or one of a part of it */
export async function decodeSetting(
  run: JobRun,
  shape: string,
  slots: number,
  bench = run.bench,
): Promise<DecodeSetting> {
  const sizes = decodeShape(slots);
  const bytes = attendCase.bytes(sizes);
  const copies = copiesOf(run, bytes);
  const prepared = await attendCase.setup(bench, sizes, copies);
  const setting = { shape, sizes, bytes, flops: attendCase.flops(sizes), facts: { copies } };
  return { ...prepared, copies, sizes, setting };
}
