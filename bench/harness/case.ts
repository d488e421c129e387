/** What a file of bench/cases/ exports: an op's shapes, what it costs at least, and how it is run. */
import type { Workbench } from "./workbench.ts";

/** Sizes by name. */
export type Shape = Readonly<Record<string, number>>;

/** One way of calling the op. */
export interface Arm {
  readonly name: string;
  /** The same work on different memory; calls go round, so that none finds its input in a cache. A promise is waited for. */
  readonly runs: readonly (() => unknown)[];
  /** Where they differ from the case's own. */
  readonly bytes?: number;
  readonly flops?: number;
}

/** A case with its inputs in place. */
export interface Prepared {
  readonly arms: readonly Arm[];
  /** Runs the arms once and compares with the oracle; throws where they differ. Done before timing. */
  readonly check: () => Promise<void>;
  /** What else is worth knowing about the inputs. */
  readonly facts?: Readonly<Record<string, number>>;
}

export interface BenchCase<S extends Shape = Shape> {
  /** Name of the op in the API. */
  readonly op: string;
  /** What the arms are, for a reader of the results. */
  readonly what: string;
  readonly shapes: Readonly<Record<string, S>>;
  /** Bytes that any implementation reads plus those it writes. */
  bytes(shape: S): number;
  /** Multiplications plus additions. */
  flops(shape: S): number;
  /** The memory bandwidth that bounds it on a CPU: of reading, for what hardly writes. Default: of copying. */
  readonly yardstick?: "read" | "copy";
  /** What the times are compared with. */
  readonly baseline: typeof kPortable;
  /** @param copies inputs on different memory */
  setup(bench: Workbench, shape: S, copies: number): Promise<Prepared> | Prepared;
}

/** The baseline of every op on the CPU: our own code without SIMD beyond what the compiler may assume. */
export const kPortable = "the same op on one thread with SPINDLEKV_CPU_ISA=baseline";

/** Calls `make` for each copy. */
export function times<T>(copies: number, make: (copy: number) => T): T[] {
  return Array.from({ length: copies }, (_, copy) => make(copy));
}
