// append_kv: rows land in their slots with the right dtype, position, mask, beta and norm, and nowhere else.
import { expect, it } from "vitest";
import { ops } from "../harness/api.ts";
import { describeOp, invoke, runCase, runCases } from "../harness/backends.ts";
import { large, matrix } from "../harness/cases.ts";
import { compareExact, compareWithin } from "../harness/compare.ts";
import { makeRope, placeRope } from "../harness/heads.ts";
import type { Layout } from "../harness/layouts.ts";
import { appendKvOracle, appendKvTwin } from "../harness/oracles.ts";
import { type Arena, readNumbers } from "../harness/tensors.ts";
import { rotationBound, sumBound } from "../harness/tolerance.ts";
import { makeValues, PATTERNS, type Pattern } from "../harness/values.ts";
import type { FloatDType } from "../oracle/float-formats.ts";

interface Append {
  readonly dtype: FloatDType;
  readonly srcDtype: FloatDType;
  readonly D: number;
  readonly T: number;
  readonly items: number;
  readonly rope: "none" | "norm" | "neox";
  readonly share: number;
  readonly layout: Layout;
  readonly norms: boolean;
  readonly mask: boolean;
  readonly beta: boolean;
  readonly pattern: Pattern;
}

const appends = matrix<Append>(
  {
    dtype: ["f32", "f16", "bf16"],
    srcDtype: ["f32", "f16", "bf16"],
    D: [8, 32, 64, 80, 96, 112, 128, 256, 512],
    T: [0, 1, 2, 31, 33, 65, 97, large(1025)],
    items: [1, 3],
    rope: ["none", "norm", "neox"],
    share: [1, 0.5],
    layout: ["contiguous", "padded", "sliced"],
    norms: [true, false],
    mask: [true, false],
    beta: [true, false],
    pattern: PATTERNS,
  },
  { seed: 121, isLarge: (c) => c.items * c.T * c.D > 40_000 },
);

// Rows that are in the run already must stay: they hold this.
const OLD = -3;

function makeDestination(arena: Arena, c: Append, room: number) {
  const rows = () =>
    arena.output(c.dtype, [room, c.D], {
      data: new Float32Array(room * c.D).fill(OLD),
      name: "dst",
    });
  const filled = (value: number) => new Array<number>(room).fill(value);
  return {
    codec: "raw" as const,
    slots: 0,
    k: rows(),
    v: rows(),
    positions: arena.output("i32", [room], { data: filled(OLD), name: "positions" }),
    ...(c.mask && { mask: arena.output("u16", [room], { data: filled(1), name: "mask" }) }),
    ...(c.beta && { beta: arena.output("f32", [room], { data: filled(OLD), name: "beta" }) }),
  };
}

const around = (before: number, values: ArrayLike<number>, after: number, filler: number) => [
  ...new Array<number>(before).fill(filler),
  ...Array.from(values),
  ...new Array<number>(after).fill(filler),
];

describeOp(
  "appended rows have the bits of the contract and touch no other slot",
  (backend, device) => {
    for (const srcDtype of ["f32", "f16", "bf16"] as const) {
      it(`rows that come in ${srcDtype}`, async () => {
        const cases = appends.casesFor(backend).filter((c) => c.srcDtype === srcDtype);
        await runCases(device, cases, async (c, arena, random) => {
          const rope =
            c.rope === "none"
              ? undefined
              : makeRope({ positions: 1200, nRot: c.D * c.share, style: c.rope });
          const pieces = Array.from({ length: c.items }, (_, i) => {
            const tokens = Math.max(0, c.T - 2 * i); // items of different lengths
            const shape = [tokens, c.D];
            const values = {
              k: makeValues(c.pattern, tokens * c.D, srcDtype, random),
              v: makeValues(c.pattern, tokens * c.D, srcDtype, random),
              tokens,
              headDim: c.D,
              dtype: c.dtype,
              firstPosition: random.integer(0, 100),
              rope,
            };
            const dstSlot = random.integer(0, 3);
            const room = dstSlot + tokens + 2;
            const item = {
              k: arena.input(srcDtype, shape, values.k, { layout: c.layout, name: "k" }),
              v: arena.input(srcDtype, shape, values.v, { layout: c.layout, name: "v" }),
              firstPosition: values.firstPosition,
              dst: makeDestination(arena, c, room),
              dstSlot,
              ...(c.norms && { keyNorms: arena.output("f32", [tokens], { name: "keyNorms" }) }),
            };
            return { values, item, dstSlot, tokens };
          });
          await invoke(random, ops.appendKv, {
            items: pieces.map(({ item }) => item),
            ...(rope && { rotate: true, rope: placeRope(arena, rope) }),
          });
          for (const { values, item, dstSlot, tokens } of pieces) {
            const twin = appendKvTwin(values);
            const rows = async (name: string, tensor: typeof item.k, data: Float32Array) =>
              compareExact(
                name,
                await readNumbers(tensor),
                around(dstSlot * c.D, data, 2 * c.D, OLD),
              );
            await rows("k", item.dst.k, twin.k);
            await rows("v", item.dst.v, twin.v);
            const slots = (data: ArrayLike<number>, filler: number) =>
              around(dstSlot, data, 2, filler);
            compareExact(
              "positions",
              await readNumbers(item.dst.positions),
              slots(twin.positions, OLD),
            );
            if (item.dst.mask) {
              const ones = new Array<number>(tokens).fill(0xffff);
              compareExact("mask", await readNumbers(item.dst.mask), slots(ones, 1));
            }
            if (item.dst.beta) {
              const zeros = new Array<number>(tokens).fill(0);
              compareExact("beta", await readNumbers(item.dst.beta), slots(zeros, OLD));
            }
            if (item.keyNorms === undefined) continue;
            const norms = await readNumbers(item.keyNorms);
            compareExact("keyNorms", norms, twin.keyNorms);
            if (c.pattern !== "normal") continue;
            const oracle = appendKvOracle(values);
            compareWithin("keyNorms against float64", norms, oracle.keyNorms, {
              element: (t) =>
                sumBound(oracle.keyNorms[t], c.D, 4) +
                Math.sqrt(c.D) * rotationBound(oracle.keyNorms[t] / Math.sqrt(c.D), c.dtype),
            });
          }
        });
      });
    }
  },
);

describeOp("appending in pieces equals appending at once", (_, device) => {
  it("bit for bit, with RoPE", async () => {
    await runCase(device, "seed=122", async (arena, random) => {
      const tokens = 37;
      const rope = placeRope(arena, makeRope({ positions: 64, nRot: 64, style: "neox" }));
      const k = arena.input("f32", [tokens, 64], makeValues("normal", tokens * 64, "f32", random));
      const v = arena.input("f32", [tokens, 64], makeValues("normal", tokens * 64, "f32", random));
      const setting = { dtype: "f16", D: 64, mask: true, beta: true } as Append;
      const whole = makeDestination(arena, setting, tokens);
      const parts = makeDestination(arena, setting, tokens);
      ops.appendKv.sync({
        items: [{ k, v, firstPosition: 5, dst: whole, dstSlot: 0 }],
        rotate: true,
        rope,
      });
      let at = 0;
      for (const size of [1, 20, 0, 16]) {
        const piece = (tensor: typeof k) => tensor.view({ offset: at * 64, shape: [size, 64] });
        ops.appendKv.sync({
          items: [{ k: piece(k), v: piece(v), firstPosition: 5 + at, dst: parts, dstSlot: at }],
          rotate: true,
          rope,
        });
        at += size;
      }
      expect(at).toBe(tokens);
      expect(await readNumbers(parts.k)).toEqual(await readNumbers(whole.k));
      expect(await readNumbers(parts.v)).toEqual(await readNumbers(whole.v));
      expect(await readNumbers(parts.positions)).toEqual(await readNumbers(whole.positions));
    });
  });
});
