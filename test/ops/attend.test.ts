// attend against the dense float64 oracle over its whole range of dtypes, head dims, groups and lengths.
import { expect, it } from "vitest";
import type { FloatDType } from "../oracle/float-formats.ts";
import type { QueryValues } from "../oracle/types.ts";
import { checkAttend, runAttend } from "../harness/attention.ts";
import { describeOp, runCase, runCases } from "../harness/backends.ts";
import { large, matrix } from "../harness/cases.ts";
import { lastPosition, makeHead } from "../harness/heads.ts";
import type { Layout } from "../harness/layouts.ts";
import type { Prng } from "../harness/prng.ts";
import { type FinitePattern, makeValues } from "../harness/values.ts";

interface Shape {
  readonly dtype: FloatDType;
  readonly qDtype: FloatDType;
  readonly D: number;
  readonly G: number;
  readonly T: number;
  readonly Tq: number;
  readonly Hkv: number;
  readonly codec: "raw" | "codebook" | "mixed";
}

const label = (prefix: string, dtype: FloatDType) => `${prefix}${dtype}`;
const work = ({ Hkv, G, T, Tq, D }: Shape) => Hkv * G * T * Tq * D;

function makeAttention(random: Prng, shape: Shape, pattern: FinitePattern = "normal"): QueryValues {
  const { D, G, T, Tq, Hkv, dtype } = shape;
  const heads = Array.from({ length: Hkv }, (_, h) =>
    makeHead(random.fork(`head ${h}`), {
      headDim: D,
      dtype,
      slots: T,
      codec: shape.codec,
      runs: shape.codec === "mixed" ? 3 : 1,
      pattern,
    }),
  );
  const queryPosition = Math.max(0, lastPosition(heads) - Tq + 1);
  return {
    headDim: D,
    group: G,
    queries: Tq,
    q: makeValues("normal", Hkv * G * Tq * D, shape.qDtype, random.fork("q")),
    heads,
    scale: 1 / Math.sqrt(D),
    causal: true,
    queryPosition,
    ropeQueryPosition: queryPosition,
    reindex: false,
  };
}

const decode = matrix<Shape>(
  {
    dtype: ["f32", "f16", "bf16"],
    qDtype: ["f32", "f16", "bf16"],
    D: [8, 32, 64, 80, 96, 112, 128, 256, 512],
    G: [1, 3, 4, 8, 16],
    T: [0, 1, 2, 31, 32, 33, 63, 64, 65, 97, large(1025), large(4097)],
    Tq: [1],
    Hkv: [1, 2],
    codec: ["raw", "codebook", "mixed"],
  },
  { seed: 21, allow: (s) => work(s) <= 2.2e6, isLarge: (s) => work(s) > 150_000 },
);

const prefill = matrix<Shape>(
  {
    dtype: ["f32", "f16", "bf16"],
    qDtype: ["f32", "f16", "bf16"],
    D: [8, 64, 80, 128, 256],
    G: [1, 3, 4, 16],
    T: [1, 2, 33, 64, 65, 97, large(257)],
    Tq: [0, 2, 17, 33, 64, large(97)],
    Hkv: [1, 2],
    codec: ["raw", "codebook"],
  },
  { seed: 22, allow: (s) => s.Tq <= s.T && work(s) <= 6e6, isLarge: (s) => work(s) > 300_000 },
);

interface Strided {
  readonly layout: Layout;
  readonly dtype: FloatDType;
  readonly Tq: number;
  readonly pattern: FinitePattern;
  readonly refBytes: 2 | 4;
}

const strided = matrix<Strided>(
  {
    layout: ["contiguous", "padded", "sliced"],
    dtype: ["f32", "f16", "bf16"],
    Tq: [1, 5],
    pattern: ["normal", "equal", "ties", "subnormal", "outlier"],
    refBytes: [2, 4],
  },
  { seed: 23 },
);

describeOp("decode attention is that of the dense formula", (backend, device) => {
  for (const T of [0, 1, 2, 31, 32, 33, 63, 64, 65, 97, 1025, 4097]) {
    const cases = decode.casesFor(backend).filter((c) => c.T === T);
    if (cases.length === 0) continue;
    it(`over ${T} slots, in every dtype, head dim and group it meets`, async () => {
      await runCases(device, cases, async (shape, arena, random) => {
        await checkAttend(arena, makeAttention(random, shape), shape);
      });
    });
  }
});

describeOp("causal prefill attention is that of the dense formula", (backend, device) => {
  for (const dtype of ["f32", "f16", "bf16"] as const) {
    it(label("for K and V in ", dtype), async () => {
      const cases = prefill.casesFor(backend).filter((c) => c.dtype === dtype);
      await runCases(device, cases, async (shape, arena, random) => {
        await checkAttend(arena, makeAttention(random, shape), shape);
      });
    });
  }
});

describeOp("strides of q and out, and the values themselves, do not matter", (backend, device) => {
  it("contiguous, padded and sliced tensors of every value pattern", async () => {
    await runCases(device, strided.casesFor(backend), async (c, arena, random) => {
      const shape = { ...c, qDtype: c.dtype, D: 32, G: 3, T: 37, Hkv: 2, codec: "mixed" as const };
      await checkAttend(arena, makeAttention(random, shape, c.pattern), shape);
    });
  });
});

describeOp("a head of more than 8192 slots is split into longer pieces", (backend, device) => {
  for (const dtype of ["f32", "f16", "bf16"] as const) {
    it(`8209 slots in ${dtype}`, async () => {
      await runCase(device, `seed=24 T=8209 ${dtype} ${backend}`, async (arena, random) => {
        const shape = { dtype, qDtype: dtype, D: 8, G: 3, T: 8209, Tq: 1, Hkv: 1 } as const;
        const values = makeAttention(random, { ...shape, codec: "mixed" });
        await checkAttend(arena, values, { ...shape, scoreMode: "query-head" });
      });
    });
  }
});

describeOp(
  "a head of more than 65536 slots is read in longer pieces",
  (backend, device) => {
    it("100003 slots in f16", async () => {
      await runCase(device, `seed=25 T=100003 f16 ${backend}`, async (arena, random) => {
        const dtype = "f16";
        const shape = { dtype, qDtype: dtype, D: 8, G: 2, T: 100_003, Tq: 1, Hkv: 1 } as const;
        const values = makeAttention(random, { ...shape, codec: "raw" });
        await checkAttend(arena, values, { ...shape, scoreMode: "query-head" });
      });
    });
  },
  ["cpu"],
);

describeOp("a repeated call gives the same bits", (backend, device) => {
  it("out, lse and score sums", async () => {
    const cases = decode.casesFor(backend).filter((c, i) => c.T > 0 && i % 4 === 0);
    await runCases(device, cases, async (shape, arena, random) => {
      const values = makeAttention(random, shape);
      const setting = { ...shape, scoreMode: "kv-head" as const };
      const first = await runAttend(arena, values, setting);
      const second = await runAttend(arena, values, setting);
      expect(second.out).toEqual(first.out);
      expect(second.lse).toEqual(first.lse);
      expect(second.scoreSum).toEqual(first.scoreSum);
    });
  });
});
