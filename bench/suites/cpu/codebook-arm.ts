/** Decode over codebooks of a given share of the native bytes, with random references. */
import { type AttendParams, attend, type Run } from "spindlekv";
import type { decodeShape } from "../../cases/attend.ts";
import { type Arm, times } from "../../harness/case.ts";
import type { Workbench } from "../../harness/workbench.ts";

/** A slot's references and magnitudes of K and V: four times two bytes. */
const kSlotBytes = 8;

interface CodebookOptions {
  readonly name: string;
  /** Share of the bytes of raw f16 keys and values. */
  readonly keep: number;
  readonly copies: number;
}

/** Keys before RoPE, as SpindleKV stores them; K and V have as many codewords. */
export function codebookArm(
  bench: Workbench,
  { queryHeads, kvHeads, headDim, slots }: ReturnType<typeof decodeShape>,
  { name, keep, copies }: CodebookOptions,
): Arm {
  const rowBytes = 2 * 2 * headDim;
  const codewords = Math.max(1, Math.floor((slots * (keep * rowBytes - kSlotBytes)) / rowBytes));
  const table = bench.ropeTable(slots, headDim);
  const references = () =>
    bench.from(
      "u16",
      [slots],
      Uint16Array.from({ length: slots }, () => bench.random.integer(0, codewords - 1)),
    );
  const run = (): Run => ({
    codec: "codebook",
    k: bench.normalF16([codewords, headDim]),
    v: bench.normalF16([codewords, headDim]),
    kRef: references(),
    vRef: references(),
    kMagnitude: bench.normalF16([slots]),
    vMagnitude: bench.normalF16([slots]),
    positions: bench.positions(slots),
  });
  const inputs = times(
    copies,
    (): AttendParams => ({
      q: bench.normalF16([queryHeads, 1, headDim]),
      out: bench.zeros("f16", [queryHeads, 1, headDim]),
      heads: times(kvHeads, () => [run()]),
      queryPosition: slots - 1,
      rope: { table, style: "norm" },
    }),
  );
  return {
    name,
    runs: inputs.map((params) => () => attend(params)),
    bytes: kvHeads * (codewords * rowBytes + slots * kSlotBytes),
  };
}
