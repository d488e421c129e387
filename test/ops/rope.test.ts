// rope: apply, undo and re-rotate, in one rotation, with the bits of the contract.
import { it } from "vitest";
import { ops } from "../harness/api.ts";
import { describeOp, invoke, runCase, runCases } from "../harness/backends.ts";
import { large, matrix } from "../harness/cases.ts";
import { compareExact, compareWithin } from "../harness/compare.ts";
import { makeRope, placeRope } from "../harness/heads.ts";
import type { Layout } from "../harness/layouts.ts";
import { ropeOracle, ropeTwin } from "../harness/oracles.ts";
import { readNumbers } from "../harness/tensors.ts";
import { rotationBound } from "../harness/tolerance.ts";
import { type FinitePattern, makeValues } from "../harness/values.ts";
import type { FloatDType } from "../oracle/float-formats.ts";
import { pairOf } from "../oracle/rope.ts";

interface Turn {
  readonly dtype: FloatDType;
  readonly D: number;
  readonly T: number;
  readonly heads: number;
  readonly style: "norm" | "neox";
  readonly share: number;
  readonly way: "apply" | "undo" | "re-rotate";
  readonly layout: Layout;
  readonly inPlace: boolean;
  readonly pattern: FinitePattern;
}

const POSITIONS = 300;

const turns = matrix<Turn>(
  {
    dtype: ["f32", "f16", "bf16"],
    D: [8, 32, 64, 80, 96, 112, 128, 256, 512],
    T: [0, 1, 2, 31, 33, 65, 97, large(1025)],
    heads: [1, 3],
    style: ["norm", "neox"],
    share: [1, 0.5, 0.25],
    way: ["apply", "undo", "re-rotate"],
    layout: ["contiguous", "padded", "sliced"],
    inPlace: [true, false],
    pattern: ["normal", "equal", "ties", "subnormal", "outlier"],
  },
  { seed: 111, isLarge: (c) => c.heads * c.T * c.D > 30_000 },
);

describeOp("rows turn by the difference of their positions", (backend, device) => {
  for (const way of ["apply", "undo", "re-rotate"] as const) {
    it(way, async () => {
      const cases = turns.casesFor(backend).filter((c) => c.way === way);
      await runCases(device, cases, async (c, arena, random) => {
        const { dtype, D: headDim, T: tokens, heads, layout } = c;
        const rope = makeRope({ positions: POSITIONS, nRot: headDim * c.share, style: c.style });
        const x = makeValues(c.pattern, heads * tokens * headDim, dtype, random);
        const positions = () =>
          Int32Array.from({ length: tokens }, () => random.integer(0, POSITIONS - 1));
        const values = {
          x,
          heads,
          tokens,
          headDim,
          rope,
          ...(way !== "apply" && { positionsFrom: positions() }),
          ...(way !== "undo" && { positionsTo: positions() }),
        };
        const shape = [heads, tokens, headDim];
        const out = arena.output(dtype, shape, {
          layout,
          name: "out",
          ...(c.inPlace && { data: x }),
        });
        const place = (name: string, data?: Int32Array) =>
          data && arena.input("i32", [tokens], data, { name });
        await invoke(random, ops.rope, {
          in: c.inPlace ? out : arena.input(dtype, shape, x, { layout, name: "in" }),
          out,
          positionsFrom: place("positionsFrom", values.positionsFrom),
          positionsTo: place("positionsTo", values.positionsTo),
          rope: placeRope(arena, rope),
        });
        const got = await readNumbers(out);
        compareExact("out", got, ropeTwin(values, dtype));
        const partner = new Map<number, number>();
        for (let i = 0; i < rope.nRot / 2; i++) {
          const [a, b] = pairOf(i, rope);
          partner.set(a, b).set(b, a);
        }
        compareWithin("out against float64", got, ropeOracle(values), {
          element: (i) => {
            const other = partner.get(i % headDim);
            if (other === undefined) return 0;
            return rotationBound(Math.abs(x[i]) + Math.abs(x[i - (i % headDim) + other]), dtype);
          },
          dtype,
        });
      });
    });
  }
});

describeOp("undoing what was applied gives the rows back", (_, device) => {
  for (const style of ["norm", "neox"] as const) {
    it(`to within the rounding of two turns, ${style}`, async () => {
      for (const dtype of ["f32", "f16", "bf16"] as const) {
        await runCase(device, `seed=112 ${style} ${dtype}`, async (arena, random) => {
          const shape = [2, 20, 64];
          const x = makeValues("normal", 2 * 20 * 64, dtype, random);
          const rope = placeRope(arena, makeRope({ positions: POSITIONS, nRot: 64, style }));
          const positions = Int32Array.from({ length: 20 }, () => random.integer(0, POSITIONS - 1));
          const at = arena.input("i32", [20], positions);
          const turned = arena.output(dtype, shape);
          const back = arena.output(dtype, shape);
          ops.rope.sync({ in: arena.input(dtype, shape, x), out: turned, positionsTo: at, rope });
          ops.rope.sync({ in: turned, out: back, positionsFrom: at, rope });
          const largest = x.reduce((a, b) => Math.max(a, Math.abs(b)), 0);
          compareWithin("back", await readNumbers(back), x, {
            element: () => 3 * rotationBound(2 * largest, dtype),
            dtype,
          });
        });
      }
    });
  }
});
