// window_scores: the bits of the canonical float32 twin, and within the bound of the dense float64 oracle.
import { expect, it } from "vitest";
import { describeOp, runCase, runCases } from "../harness/backends.ts";
import { large, matrix } from "../harness/cases.ts";
import { cutHead, lastPosition, makeHead, makeRope } from "../harness/heads.ts";
import type { Layout } from "../harness/layouts.ts";
import { makeValues, type FinitePattern } from "../harness/values.ts";
import { checkWindow, runWindow } from "../harness/window.ts";
import type { FloatDType } from "../oracle/float-formats.ts";
import type { HeadValues, QueryValues } from "../oracle/types.ts";
import type { WindowNorm } from "../oracle/window-scores.ts";
import type { Prng } from "../harness/prng.ts";

interface Window {
  readonly dtype: FloatDType;
  readonly qDtype: FloatDType;
  readonly D: number;
  readonly G: number;
  readonly T: number;
  readonly W: number;
  readonly codec: "raw" | "codebook" | "mixed";
  readonly norm: WindowNorm;
  readonly layout: Layout;
  readonly pattern: FinitePattern;
}

const work = ({ G, T, W, D }: Window) => G * T * W * D;

const windows = matrix<Window>(
  {
    dtype: ["f32", "f16", "bf16"],
    qDtype: ["f32", "f16", "bf16"],
    D: [8, 32, 64, 80, 96, 112, 128, 256, 512],
    G: [1, 3, 4, 8, 16],
    T: [0, 1, 2, 31, 32, 33, 63, 64, 65, 97, large(1025), large(4097)],
    W: [1, 2, 8, 32],
    codec: ["raw", "codebook", "mixed"],
    norm: ["sum", "window", "causalCount"],
    layout: ["contiguous", "padded", "sliced"],
    pattern: ["normal", "equal", "ties", "subnormal", "outlier"],
  },
  { seed: 71, allow: (c) => work(c) <= 1.1e6, isLarge: (c) => work(c) > 250_000 },
);

function queryOver(random: Prng, heads: readonly HeadValues[], c: Window): QueryValues {
  const queryPosition = Math.max(0, lastPosition(heads) - c.W + 1);
  return {
    headDim: c.D,
    group: c.G,
    queries: c.W,
    q: makeValues("normal", heads.length * c.G * c.W * c.D, c.qDtype, random.fork("q")),
    heads,
    scale: 1 / Math.sqrt(c.D),
    causal: true,
    queryPosition,
    ropeQueryPosition: queryPosition,
    reindex: false,
  };
}

const base: Window = {
  dtype: "f16",
  qDtype: "f16",
  D: 64,
  G: 4,
  T: 97,
  W: 8,
  codec: "raw",
  norm: "sum",
  layout: "contiguous",
  pattern: "normal",
};

describeOp("column sums, squares and maxima have the bits of the contract", (backend, device) => {
  for (const T of [0, 1, 2, 31, 32, 33, 63, 64, 65, 97, 1025, 4097]) {
    const cases = windows.casesFor(backend).filter((c) => c.T === T);
    if (cases.length === 0) continue;
    it(`over ${T} slots and a second, ragged head`, async () => {
      await runCases(device, cases, async (c, arena, random) => {
        const heads = [c.T, Math.floor(c.T / 3)].map((slots, h) =>
          makeHead(random.fork(`${h}`), {
            headDim: c.D,
            dtype: c.dtype,
            slots,
            codec: c.codec,
            runs: c.codec === "mixed" ? 3 : 1,
            pattern: c.pattern,
          }),
        );
        await checkWindow(arena, queryOver(random, heads, c), c);
      });
    });
  }
});

interface Extras {
  readonly dtype: FloatDType;
  readonly mask: boolean;
  readonly beta: boolean;
  readonly rope: "none" | "norm" | "neox";
  readonly reindex: boolean;
  readonly rotated: boolean | "mixed";
  readonly share: number;
  readonly codec: "raw" | "codebook" | "mixed";
  readonly step: number;
  readonly refBytes: 2 | 4;
}

const extras = matrix<Extras>(
  {
    dtype: ["f32", "f16", "bf16"],
    mask: [true, false],
    beta: [true, false],
    rope: ["none", "norm", "neox"],
    reindex: [true, false],
    rotated: [false, true, "mixed"],
    share: [1, 0.5],
    codec: ["raw", "codebook", "mixed"],
    step: [1, 3],
    refBytes: [2, 4],
  },
  { seed: 72, allow: (c) => !c.reindex || (c.rotated === false && c.rope !== "none") },
);

describeOp("masks, beta, RoPE on read and reindexing enter the same bits", (backend, device) => {
  it("over heads of several runs", async () => {
    await runCases(device, extras.casesFor(backend), async (c, arena, random) => {
      const heads = [70, 0, 21].map((slots, h) =>
        makeHead(random.fork(`${h}`), {
          ...{ headDim: 64, dtype: c.dtype, slots, codec: c.codec, runs: 3, group: 3 },
          ...{ rotated: c.rotated, hasMask: c.mask, hasBeta: c.beta, step: c.step },
        }),
      );
      const values = queryOver(random, heads, { ...base, ...c, qDtype: c.dtype, G: 3, W: 5 });
      const rope =
        c.rope === "none"
          ? undefined
          : makeRope({ positions: 256, nRot: 64 * c.share, style: c.rope });
      await checkWindow(
        arena,
        {
          ...values,
          rope,
          reindex: c.reindex,
          ropeQueryPosition: c.reindex ? 70 : values.queryPosition,
        },
        { ...base, ...c, qDtype: c.dtype },
      );
    });
  });
});

interface Counting {
  readonly dtype: FloatDType;
  readonly D: number;
  readonly G: number;
  readonly T: number;
  readonly W: number;
  readonly codec: "raw" | "codebook" | "mixed";
  readonly norm: WindowNorm;
  readonly hasMask: boolean;
  readonly step: number;
  readonly weights: "distance" | "some zero" | "negative" | "none";
  readonly entropyContext: boolean;
}

const countings = matrix<Counting>(
  {
    dtype: ["f32", "f16", "bf16"],
    D: [8, 40, 64],
    G: [1, 3, 8],
    T: [0, 5, 64, 70, 97],
    W: [1, 5, 33, large(70)],
    codec: ["raw", "codebook", "mixed"],
    norm: ["sum", "window", "causalCount"],
    hasMask: [false, true],
    step: [1, 3],
    weights: ["distance", "some zero", "negative", "none"],
    entropyContext: [true, false],
  },
  {
    seed: 78,
    allow: (c) => c.G * c.T * c.W * c.D <= 1.1e6,
    isLarge: (c) => c.G * c.T * c.W * c.D > 150_000,
  },
);

const weightOf: Record<Counting["weights"], ((w: number, W: number) => number) | undefined> = {
  distance: (w, W) => 0.9 ** (W - 1 - w),
  "some zero": (w) => (w % 2 === 0 ? 0 : 1.5),
  negative: (w) => 0.5 - (w % 4),
  none: undefined,
};

describeOp("weights of queries and the entropy of the context", (backend, device) => {
  it("over masks, gaps and more queries than a chunk", async () => {
    await runCases(device, countings.casesFor(backend), async (c, arena, random) => {
      const heads = [c.T, Math.floor(c.T / 2)].map((slots, h) =>
        makeHead(random.fork(`${h}`), {
          ...{ headDim: c.D, dtype: c.dtype, slots, codec: c.codec, runs: 2, group: c.G },
          ...{ hasMask: c.hasMask, step: c.step },
        }),
      );
      const weight = weightOf[c.weights];
      const setting = {
        ...{ ...base, ...c, layout: "contiguous" as const, pattern: "normal" as const },
        qDtype: c.dtype,
        ...(weight && {
          queryWeights: Float32Array.from({ length: c.W }, (_, w) => weight(w, c.W)),
        }),
      };
      await checkWindow(arena, queryOver(random, heads, setting), setting);
    });
  });

  it("weights of one are no weights, bit for bit", async () => {
    await runCase(device, "seed=79", async (arena, random) => {
      const heads = [makeHead(random, { headDim: 64, dtype: "f16", slots: 97 })];
      const values = queryOver(random, heads, base);
      const queryWeights = new Float32Array(base.W).fill(1);
      expect(await runWindow(arena, values, { ...base, queryWeights })).toEqual(
        await runWindow(arena, values, base),
      );
    });
  });

  it("a window that is all there is has a context of nothing", async () => {
    await runCase(device, "seed=80", async (arena, random) => {
      const heads = [makeHead(random, { headDim: 64, dtype: "f16", slots: base.W })];
      const values = queryOver(random, heads, base);
      const got = await runWindow(arena, values, { ...base, entropyContext: true });
      expect(values.queryPosition).toBe(0);
      expect(Array.from(got.entropy)).toEqual(new Array(base.G).fill(0));
    });
  });
});

describeOp("cutting the same slots into other runs changes no bit", (_, device) => {
  for (const size of [1, 5, 32, 64, 90]) {
    it(`runs of at most ${size}`, async () => {
      await runCase(device, `seed=73 size=${size}`, async (arena, random) => {
        for (const codec of ["raw", "codebook"] as const) {
          const head = makeHead(random, {
            headDim: 64,
            dtype: "f16",
            slots: 130,
            codec,
            hasBeta: true,
          });
          const values = queryOver(random, [head], { ...base, codec });
          const whole = await runWindow(arena, values, base);
          const cut = await runWindow(arena, { ...values, heads: [cutHead(head, size, 64)] }, base);
          for (const part of ["sum", "sumSq", "max"] as const)
            expect(cut[part]).toEqual(whole[part]);
        }
      });
    });
  }
});

describeOp("a repeated call gives the same bits", (_, device) => {
  it("in every output, entropy and lse included", async () => {
    await runCase(device, "seed=74", async (arena, random) => {
      const heads = [130, 17].map((slots) =>
        makeHead(random, { headDim: 64, dtype: "bf16", slots, codec: "mixed", runs: 2 }),
      );
      const values = queryOver(random, heads, { ...base, qDtype: "bf16" });
      const setting = { ...base, dtype: "bf16", qDtype: "bf16" } as const;
      expect(await runWindow(arena, values, setting)).toEqual(
        await runWindow(arena, values, setting),
      );
    });
  });
});

describeOp("absolute scores: every query adds a mass of one", (_, device) => {
  it("the sums of a head add up to W, not to 1 and not to W / group", async () => {
    await runCase(device, "seed=75", async (arena, random) => {
      const head = makeHead(random, { headDim: 64, dtype: "f16", slots: 97 });
      const got = await runWindow(arena, queryOver(random, [head], base), base);
      for (let h = 0; h < base.G; h++) {
        const row = Array.from(got.sum).slice(h * 97, (h + 1) * 97);
        expect(row.reduce((a, b) => a + b)).toBeCloseTo(base.W, 4);
      }
    });
  });
});

describeOp("logits that are not finite are counted", (_, device) => {
  it("visible ones, once per query head and query, added to what was there", async () => {
    await runCase(device, "seed=76", async (arena, random) => {
      const [run] = makeHead(random, { headDim: 64, dtype: "f16", slots: 97 });
      const k = run.k.slice();
      k[10 * 64 + 3] = Number.NaN; // seen by all 8 queries
      k[92 * 64 + 1] = Number.NaN; // positions 90..96 are queries 1..8 - slot 92 is seen by five
      const values = queryOver(random, [[{ ...run, k }]], base);
      const got = await runWindow(arena, values, base, 100);
      expect(values.queryPosition).toBe(89);
      expect(got.nonfinite).toBe(100 + base.G * (8 + 5));
    });
  });
  it("none when a NaN is masked or comes later than every query", async () => {
    await runCase(device, "seed=77", async (arena, random) => {
      const [run] = makeHead(random, { headDim: 64, dtype: "f16", slots: 97 });
      const k = run.k
        .slice()
        .fill(Number.NaN, 10 * 64, 11 * 64)
        .fill(Number.NaN, 96 * 64);
      const mask = new Uint16Array(97).fill(0xffff);
      mask[10] = 0;
      const values = { ...queryOver(random, [[{ ...run, k, mask }]], base), queryPosition: 60 };
      const setting = { ...base, norm: "sum" as const };
      const got = await checkWindow(arena, values, setting);
      expect(got.nonfinite).toBe(0);
    });
  });
});
