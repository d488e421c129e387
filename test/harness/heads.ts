// Heads as lists of runs, for the ops that attend: seeded values, cutting the same slots into other runs,
// and placing them on a device.
import { type FloatDType, roundTo } from "../oracle/float-formats.ts";
import {
  type HeadValues,
  type QueryValues,
  type RopeValues,
  type RunValues,
  slotsOf,
} from "../oracle/types.ts";
import type { Rope, Run } from "./api.ts";
import { memoised } from "./memo.ts";
import type { Prng } from "./prng.ts";
import type { Arena } from "./tensors.ts";
import type { LogitScale } from "./tolerance.ts";
import { makeValues, type Pattern } from "./values.ts";

export interface HeadOptions {
  readonly headDim: number;
  readonly dtype: FloatDType;
  readonly slots: number;
  readonly codec?: "raw" | "codebook" | "mixed";
  readonly runs?: number;
  readonly pattern?: Pattern;
  readonly rotated?: boolean | "mixed";
  readonly group?: number;
  readonly hasMask?: boolean;
  readonly hasBeta?: boolean;
  /** Largest step between the positions of neighbours; 1: no gaps. */
  readonly step?: number;
  /** Codewords of a codebook run. Default: one for three slots, and one more. */
  readonly codewords?: number;
}

function makeRun(
  random: Prng,
  options: HeadOptions,
  slots: number,
  firstPosition: number,
): RunValues {
  const { headDim, dtype, pattern = "normal", group = 1, step = 1 } = options;
  const codec =
    options.codec === "mixed"
      ? random.pick(["raw", "codebook"] as const)
      : (options.codec ?? "raw");
  const positions = new Int32Array(slots);
  let position = firstPosition;
  for (let s = 0; s < slots; s++) {
    positions[s] = position;
    position += random.integer(1, step);
  }
  const shared = {
    codec,
    rotated: options.rotated === "mixed" ? random.uniform() < 0.5 : (options.rotated ?? false),
    slots,
    positions,
    ...(options.hasMask && {
      mask: Uint16Array.from({ length: slots }, () => random.integer(0, 2 ** group - 1)),
    }),
    ...(options.hasBeta && {
      beta: Float32Array.from({ length: slots }, () => Math.log(random.integer(1, 9))),
    }),
  };
  if (codec === "raw") {
    return {
      ...shared,
      k: makeValues(pattern, slots * headDim, dtype, random),
      v: makeValues(pattern, slots * headDim, dtype, random),
    };
  }
  const codewords = () => {
    const count = options.codewords ?? Math.ceil(slots / 3) + 1;
    return makeValues(pattern, count * headDim, dtype, random).map((x) =>
      roundTo(dtype, x / Math.sqrt(headDim)),
    );
  };
  const k = codewords();
  const v = codewords();
  const refs = (rows: Float32Array) =>
    Int32Array.from({ length: slots }, () => random.integer(0, rows.length / headDim - 1));
  const magnitudes = () =>
    Float32Array.from({ length: slots }, () =>
      roundTo(dtype, random.uniform() * 2 * Math.sqrt(headDim)),
    );
  return {
    ...shared,
    k,
    v,
    kRef: refs(k),
    vRef: refs(v),
    kMagnitude: magnitudes(),
    vMagnitude: magnitudes(),
  };
}

/** A head of `slots` slots cut at random places into `runs` runs (some may be empty). */
export function makeHead(random: Prng, options: HeadOptions): HeadValues {
  const { slots, runs = 1, step = 1 } = options;
  const cuts = Array.from({ length: runs - 1 }, () => random.integer(0, slots)).sort(
    (a, b) => a - b,
  );
  const ends = [...cuts, slots];
  let start = 0;
  let position = 0;
  return ends.map((end) => {
    const run = makeRun(random, options, end - start, position);
    position = run.slots === 0 ? position : run.positions[run.slots - 1] + random.integer(1, step);
    start = end;
    return run;
  });
}

export function lastPosition(heads: readonly HeadValues[]): number {
  const positions = heads.flatMap((head) => head.flatMap((run) => Array.from(run.positions)));
  return positions.reduce((a, b) => Math.max(a, b), 0);
}

/** Slots [from, to) of a run as a run of their own. */
export function sliceRun(run: RunValues, from: number, to: number, headDim: number): RunValues {
  const rows = (data: Float32Array) =>
    run.codec === "raw" ? data.slice(from * headDim, to * headDim) : data;
  return {
    ...run,
    slots: to - from,
    k: rows(run.k),
    v: rows(run.v),
    kRef: run.kRef?.slice(from, to),
    vRef: run.vRef?.slice(from, to),
    kMagnitude: run.kMagnitude?.slice(from, to),
    vMagnitude: run.vMagnitude?.slice(from, to),
    positions: run.positions.slice(from, to),
    mask: run.mask?.slice(from, to),
    beta: run.beta?.slice(from, to),
  };
}

/** The same slots in runs of at most `size`. */
export function cutHead(head: HeadValues, size: number, headDim: number): HeadValues {
  return head.flatMap((run) => {
    const pieces: RunValues[] = [];
    for (let from = 0; from < run.slots; from += size) {
      pieces.push(sliceRun(run, from, Math.min(run.slots, from + size), headDim));
    }
    return pieces;
  });
}

export interface PlacedRunOptions {
  /** Width of codebook references. */
  readonly refBytes?: 2 | 4;
  /** Slots of somebody else's before a codebook run's own in its tensors of one number a slot. */
  readonly slotsBefore?: number;
}

/** A run on the device. Behind its slots lie two rows of NaN that nothing may read. */
export function placeRun(
  arena: Arena,
  run: RunValues,
  dtype: FloatDType,
  headDim: number,
  options: PlacedRunOptions = {},
): Run {
  const { slots, codec } = run;
  const room = slots + 2;
  const padded = (data: ArrayLike<number>, length: number, filler: number) => {
    const result = new Array<number>(length).fill(filler);
    for (let i = 0; i < data.length; i++) result[i] = data[i];
    return result;
  };
  const rows = (name: string, data: Float32Array) => {
    const count = codec === "raw" ? room : data.length / headDim;
    return arena.input(dtype, [count, headDim], padded(data, count * headDim, Number.NaN), {
      name,
    });
  };
  const refDtype = options.refBytes === 4 ? "i32" : "u16";
  const shared = {
    slots,
    rotated: run.rotated,
    k: rows("k", run.k),
    v: rows("v", run.v),
    positions: arena.input("i32", [room], padded(run.positions, room, 0), { name: "positions" }),
    ...(run.mask && {
      mask: arena.input("u16", [room], padded(run.mask, room, 0xffff), { name: "mask" }),
    }),
    ...(run.beta && {
      beta: arena.input("f32", [room], padded(run.beta, room, 0), { name: "beta" }),
    }),
  };
  if (codec === "raw") return { codec, ...shared };
  const { slotsBefore = 0 } = options;
  const slotInput = (name: string, kind: "u16" | "i32" | FloatDType, data: ArrayLike<number>) => {
    const all = [...new Array<number>(slotsBefore).fill(0), ...padded(data, room, 0)];
    return arena
      .input(kind, [all.length], all, { name })
      .view({ offset: slotsBefore, shape: [room] });
  };
  return {
    codec,
    ...shared,
    kRef: slotInput("kRef", refDtype, run.kRef!),
    vRef: slotInput("vRef", refDtype, run.vRef!),
    kMagnitude: slotInput("kMagnitude", dtype, run.kMagnitude!),
    vMagnitude: slotInput("vMagnitude", dtype, run.vMagnitude!),
  };
}

export function placeHeads(
  arena: Arena,
  heads: readonly HeadValues[],
  dtype: FloatDType,
  headDim: number,
  options: PlacedRunOptions = {},
): Run[][] {
  return heads.map((head) => head.map((run) => placeRun(arena, run, dtype, headDim, options)));
}

export interface RopeOptions {
  readonly positions: number;
  readonly nRot: number;
  readonly style: "norm" | "neox";
  readonly theta?: number;
}

/** Angles p * theta^(-2i/nRot), made here so that the oracles do not lean on the library's table. */
export const makeRope = memoised(
  ({ positions, nRot, style, theta = 10_000 }: RopeOptions): RopeValues => {
    const cosSin = new Float32Array(positions * nRot);
    for (let p = 0; p < positions; p++) {
      for (let i = 0; i < nRot / 2; i++) {
        const angle = p * theta ** ((-2 * i) / nRot);
        cosSin[p * nRot + 2 * i] = Math.cos(angle);
        cosSin[p * nRot + 2 * i + 1] = Math.sin(angle);
      }
    }
    return { cosSin, nRot, style };
  },
);

export function placeRope(arena: Arena, rope: RopeValues): Rope {
  const positions = rope.cosSin.length / rope.nRot;
  const table = arena.input("f32", [positions, rope.nRot / 2, 2], rope.cosSin, {
    name: "rope.table",
  });
  return { table, style: rope.style };
}

function largestNorm(data: Float32Array, headDim: number): number {
  let largest = 0;
  for (let start = 0; start < data.length; start += headDim) {
    let square = 0;
    for (let d = start; d < start + headDim; d++) square += data[d] ** 2;
    largest = Math.max(largest, Math.sqrt(square));
  }
  return largest;
}

/** What the tolerance of a query's logits grows with; sum |q_d k_d| <= |q| |k| (Cauchy and Schwarz). */
export function logitScaleOf(values: QueryValues): LogitScale {
  const { headDim } = values;
  let key = 0;
  let beta = 0;
  for (const run of values.heads.flat()) {
    const magnitude = run.kMagnitude?.reduce((a, b) => Math.max(a, Math.abs(b)), 0) ?? 1;
    key = Math.max(key, largestNorm(run.k, headDim) * magnitude);
    beta = run.beta?.reduce((a, b) => Math.max(a, Math.abs(b)), beta) ?? beta;
  }
  return {
    slots: Math.max(0, ...values.heads.map(slotsOf)),
    headDim,
    largestTerm: largestNorm(values.q, headDim) * key * Math.abs(values.scale),
    largestBeta: beta,
  };
}

/** Largest |v| a head can add to an output. */
export function largestValueOf(head: HeadValues): number {
  let largest = 0;
  for (const run of head) {
    const magnitude = run.vMagnitude?.reduce((a, b) => Math.max(a, Math.abs(b)), 0) ?? 1;
    for (const value of run.v) largest = Math.max(largest, Math.abs(value) * magnitude);
  }
  return largest;
}
