// Properties of select followed by compact: rows stay together, dropping nothing is the identity, and dropping
// what no query sees changes no attention.
import { expect, it } from "vitest";
import { ops, type Run, type Tensor } from "../harness/api.ts";
import { describeOp, runCases } from "../harness/backends.ts";
import { matrix } from "../harness/cases.ts";
import { makeHead, placeRun } from "../harness/heads.ts";
import { type Arena, readNumbers } from "../harness/tensors.ts";
import { makeValues } from "../harness/values.ts";
import type { FloatDType } from "../oracle/float-formats.ts";

interface Keeping {
  readonly dtype: FloatDType;
  readonly D: number;
  readonly T: number;
  readonly share: number;
}

const keeping = matrix<Keeping>(
  { dtype: ["f32", "f16", "bf16"], D: [8, 64, 128], T: [1, 33, 97], share: [0, 0.3, 1] },
  { seed: 211 },
);

function makeDestination(arena: Arena, c: Keeping, slots: number): Run {
  return {
    codec: "raw",
    slots: 0,
    k: arena.output(c.dtype, [slots, c.D]),
    v: arena.output(c.dtype, [slots, c.D]),
    positions: arena.output("i32", [slots]),
    mask: arena.output("u16", [slots]),
    beta: arena.output("f32", [slots]),
  };
}

// Selects by score on the device and compacts with what came out, as an evictor does.
async function selectAndCompact(arena: Arena, src: Run, c: Keeping, scores: Tensor): Promise<Run> {
  const k = Math.floor(c.T * c.share);
  const indices = arena.output("i32", [1, Math.max(1, c.T)]);
  const counts = arena.output("i32", [1]);
  ops.selectTopk.sync({ scores, lengths: [c.T], k: [k], indices, counts });
  const [count] = Array.from(await readNumbers(counts));
  expect(count).toBe(k);
  const dst = makeDestination(arena, c, count);
  const kept = indices.view({ shape: [count] });
  ops.compact.sync({ items: [{ src, dst, indices: kept }] });
  return dst;
}

describeOp("selecting and compacting keeps the rows of a slot together", (backend, device) => {
  it("K, V, position, mask and beta all carry the number of their slot", async () => {
    await runCases(device, keeping.casesFor(backend), async (c, arena, random) => {
      const slotNumbers = Array.from({ length: c.T }, (_, s) => s);
      const rows = (sign: number) =>
        slotNumbers.flatMap((s) => new Array<number>(c.D).fill(sign * s));
      const src: Run = {
        codec: "raw",
        k: arena.input(c.dtype, [c.T, c.D], rows(1)),
        v: arena.input(c.dtype, [c.T, c.D], rows(-1)),
        positions: arena.input(
          "i32",
          [c.T],
          slotNumbers.map((s) => 1000 + s),
        ),
        mask: arena.input("u16", [c.T], slotNumbers),
        beta: arena.input(
          "f32",
          [c.T],
          slotNumbers.map((s) => s / 2),
        ),
      };
      const scores = arena.input("f32", [1, c.T], makeValues("normal", c.T, "f32", random));
      const dst = await selectAndCompact(arena, src, c, scores);
      const positions = Array.from(await readNumbers(dst.positions));
      const slots = positions.map((p) => p - 1000);
      expect([...slots].sort((a, b) => a - b)).toEqual(slots);
      const wide = (sign: number) =>
        slots.flatMap((s) => new Array<number>(c.D).fill(sign * s + 0));
      expect(Array.from(await readNumbers(dst.k))).toEqual(wide(1));
      expect(Array.from(await readNumbers(dst.v), (x) => x + 0)).toEqual(wide(-1));
      expect(Array.from(await readNumbers(dst.mask!))).toEqual(slots);
      expect(Array.from(await readNumbers(dst.beta!))).toEqual(slots.map((s) => s / 2));
    });
  });
});

describeOp("dropping nothing is the identity", (backend, device) => {
  it("bit for bit in every part of the run", async () => {
    const cases = keeping.casesFor(backend).filter((c) => c.share === 1);
    await runCases(device, cases, async (c, arena, random) => {
      const [values] = makeHead(random, {
        headDim: c.D,
        dtype: c.dtype,
        slots: c.T,
        group: 16,
        hasMask: true,
        hasBeta: true,
        step: 5,
      });
      const src = placeRun(arena, values, c.dtype, c.D);
      const scores = arena.input("f32", [1, c.T], makeValues("ties", c.T, "f32", random));
      const dst = await selectAndCompact(arena, src, c, scores);
      expect(Array.from(await readNumbers(dst.k))).toEqual(Array.from(values.k));
      expect(Array.from(await readNumbers(dst.v))).toEqual(Array.from(values.v));
      expect(Array.from(await readNumbers(dst.positions))).toEqual(Array.from(values.positions));
      expect(Array.from(await readNumbers(dst.mask!))).toEqual(Array.from(values.mask!));
      expect(Array.from(await readNumbers(dst.beta!))).toEqual(Array.from(values.beta!));
    });
  });
});
