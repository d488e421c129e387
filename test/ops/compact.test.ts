// compact: kept slots move with everything that belongs to them, exactly.
import { it } from "vitest";
import { ops, type Run } from "../harness/api.ts";
import { describeOp, invoke, runCases } from "../harness/backends.ts";
import { large, matrix } from "../harness/cases.ts";
import { compareExact } from "../harness/compare.ts";
import { makeHead, placeRun } from "../harness/heads.ts";
import type { Prng } from "../harness/prng.ts";
import { type Arena, readNumbers } from "../harness/tensors.ts";
import { PATTERNS, type Pattern } from "../harness/values.ts";
import { compactOracle } from "../oracle/compact.ts";
import type { FloatDType } from "../oracle/float-formats.ts";

interface Move {
  readonly dtype: FloatDType;
  readonly D: number;
  readonly T: number;
  readonly codec: "raw" | "codebook";
  readonly kept: "none" | "one" | "some" | "all";
  readonly items: number;
  readonly mask: "none" | "src" | "override";
  readonly beta: boolean;
  readonly dst: "bare" | "full";
  readonly refBytes: 2 | 4;
  readonly indexBase: number;
  readonly dstSlot: number;
  readonly pattern: Pattern;
}

const moves = matrix<Move>(
  {
    dtype: ["f32", "f16", "bf16"],
    D: [8, 32, 64, 80, 96, 112, 128, 256, 512],
    T: [1, 2, 31, 33, 65, 97, large(1025)],
    codec: ["raw", "codebook"],
    kept: ["none", "one", "some", "all"],
    items: [1, 3],
    mask: ["none", "src", "override"],
    beta: [true, false],
    dst: ["bare", "full"],
    refBytes: [2, 4],
    indexBase: [0, 64],
    dstSlot: [0, 5],
    pattern: PATTERNS,
  },
  { seed: 131, isLarge: (c) => c.items * c.T * c.D > 40_000 },
);

const FILLER = 9;

function keptSlots(random: Prng, c: Move): number[] {
  const slots = Array.from({ length: c.T }, (_, i) => i);
  if (c.kept === "none") return [];
  if (c.kept === "one") return [random.integer(0, c.T - 1)];
  return c.kept === "all" ? slots : slots.filter(() => random.uniform() < 0.4);
}

// A destination with two slots more than needed, all of which hold FILLER.
function makeDestination(arena: Arena, c: Move, count: number): Run {
  const room = c.dstSlot + count + 2;
  const slotOutput = (name: string, dtype: "i32" | "u16" | FloatDType) =>
    arena.output(dtype, [room], { data: new Array<number>(room).fill(FILLER), name });
  const isRaw = c.codec === "raw";
  const rowCount = isRaw ? room : 3;
  const rows = (name: string) => {
    const data = new Array<number>(rowCount * c.D).fill(FILLER);
    return arena.output(c.dtype, [rowCount, c.D], { data, name });
  };
  const refDtype = c.refBytes === 2 ? "u16" : "i32";
  return {
    codec: c.codec,
    slots: 0,
    k: rows("dst.k"),
    v: rows("dst.v"),
    positions: slotOutput("dst.positions", "i32"),
    ...(!isRaw && {
      kRef: slotOutput("dst.kRef", refDtype),
      vRef: slotOutput("dst.vRef", refDtype),
      kMagnitude: slotOutput("dst.kMagnitude", c.dtype),
      vMagnitude: slotOutput("dst.vMagnitude", c.dtype),
    }),
    ...(c.dst === "full" && {
      mask: slotOutput("dst.mask", "u16"),
      beta: slotOutput("dst.beta", "f32"),
    }),
  };
}

describeOp("kept slots arrive in order and nothing else is written", (backend, device) => {
  for (const codec of ["raw", "codebook"] as const) {
    it(`${codec} runs`, async () => {
      const cases = moves.casesFor(backend).filter((c) => c.codec === codec);
      await runCases(device, cases, async (c, arena, random) => {
        const pieces = Array.from({ length: c.items }, (_, i) => {
          const [src] = makeHead(random.fork(`${i}`), {
            ...{
              headDim: c.D,
              dtype: c.dtype,
              slots: c.T,
              codec,
              pattern: c.pattern,
              group: 16,
              step: 4,
            },
            ...{ hasMask: c.mask === "src", hasBeta: c.beta },
          });
          const indices = keptSlots(random, c).map((s) => s + c.indexBase);
          const maskOverride =
            c.mask === "override"
              ? Uint16Array.from(indices, () => random.integer(0, 0xffff))
              : undefined;
          const dst = makeDestination(arena, c, indices.length);
          const item = {
            src: placeRun(arena, src, c.dtype, c.D, c),
            dst,
            indices: arena.input("i32", [indices.length], indices, { name: "indices" }),
            ...(maskOverride && {
              maskOverride: arena.input("u16", [indices.length], maskOverride, {
                name: "maskOverride",
              }),
            }),
            indexBase: c.indexBase,
            dstSlot: c.dstSlot,
          };
          const expected = compactOracle({
            src,
            headDim: c.D,
            indices,
            indexBase: c.indexBase,
            maskOverride,
          });
          return { item, dst, expected };
        });
        await invoke(random, ops.compact, { items: pieces.map(({ item }) => item) });
        for (const { dst, expected } of pieces) {
          for (const [name, values] of Object.entries(expected) as [
            keyof typeof expected,
            number[],
          ][]) {
            const tensor = dst[name];
            if (tensor === undefined) continue;
            const width = name === "k" || name === "v" ? c.D : 1;
            const got = Array.from(await readNumbers(tensor));
            // Codewords are not written at all: every row of them is still FILLER.
            const isMoved = !(codec === "codebook" && width > 1);
            const lead = new Array<number>(isMoved ? c.dstSlot * width : 0).fill(FILLER);
            const tail = new Array<number>(got.length - lead.length - values.length).fill(FILLER);
            compareExact(name, got, [...lead, ...values, ...tail]);
          }
        }
      });
    });
  }
});
