// key_stats: the bits of the canonical float32 twin, and within the bound of the float64 oracle.
import { expect, it } from "vitest";
import { ops, type Tensor } from "../harness/api.ts";
import { describeOp, invoke, runCase, runCases } from "../harness/backends.ts";
import { large, matrix } from "../harness/cases.ts";
import { compareExact, compareWithin } from "../harness/compare.ts";
import { cutHead, makeHead, makeRope, placeHeads, placeRope } from "../harness/heads.ts";
import type { Layout } from "../harness/layouts.ts";
import { keyStatsOracle, keyStatsTwin } from "../harness/oracles.ts";
import { type Arena, readNumbers } from "../harness/tensors.ts";
import { meanCosineBound, sumBound } from "../harness/tolerance.ts";
import type { Pattern } from "../harness/values.ts";
import type { FloatDType } from "../oracle/float-formats.ts";
import type { KeyStats, KeyStatsValues } from "../oracle/key-stats.ts";
import { slotsOf } from "../oracle/types.ts";

const kOutputs = ["kNorm", "cosToMean", "vNorm", "vL1"] as const;
type Output = (typeof kOutputs)[number];

interface Setting {
  readonly dtype: FloatDType;
  readonly layout?: Layout;
  readonly refBytes?: 2 | 4;
  readonly outputs?: readonly Output[];
}

type Outputs = Record<Output, number[] | undefined> & { readonly nonfinite: number };

// Elements past a head's slots must keep this value.
const UNWRITTEN = -7;

async function runStats(
  arena: Arena,
  values: KeyStatsValues,
  setting: Setting,
  nonfiniteStart = 0,
): Promise<Outputs> {
  const { heads, rope, headDim, reindex } = values;
  const { layout = "contiguous", outputs = kOutputs } = setting;
  const shape = [heads.length, Math.max(1, ...heads.map(slotsOf))];
  const data = new Float32Array(shape[0] * shape[1]).fill(UNWRITTEN);
  const tensors = Object.fromEntries(
    outputs.map((name) => [name, arena.output("f32", shape, { layout, data, name })]),
  ) as Partial<Record<Output, Tensor>>;
  const nonfinite = arena.output("i32", [1], { data: [nonfiniteStart], name: "nonfinite" });
  await invoke(arena.random, ops.keyStats, {
    heads: placeHeads(arena, heads, setting.dtype, headDim, setting),
    reindex,
    ...(rope && { rope: placeRope(arena, rope) }),
    ...tensors,
    nonfinite,
  });
  const read = async (name: Output) => {
    const tensor = tensors[name];
    return tensor && Array.from(await readNumbers(tensor));
  };
  return {
    kNorm: await read("kNorm"),
    cosToMean: await read("cosToMean"),
    vNorm: await read("vNorm"),
    vL1: await read("vL1"),
    nonfinite: (await readNumbers(nonfinite))[0],
  };
}

/** Norms that are not finite, of the outputs asked for. */
function nonfiniteIn(twin: KeyStats, outputs: readonly Output[]): number {
  const norms = (["kNorm", "vNorm", "vL1"] as const).filter(
    (name) => outputs.includes(name) || (name === "kNorm" && outputs.includes("cosToMean")),
  );
  const all = norms.flatMap((name) => twin[name].flatMap((row) => Array.from(row)));
  return all.filter((norm) => !Number.isFinite(norm)).length;
}

async function checkStats(
  arena: Arena,
  values: KeyStatsValues,
  setting: Setting,
  hasExactBound = true,
): Promise<void> {
  const { outputs = kOutputs } = setting;
  const got = await runStats(arena, values, setting);
  const twin = keyStatsTwin(values);
  const oracle = keyStatsOracle(values);
  const stride = Math.max(1, ...values.heads.map(slotsOf));
  const { headDim } = values;
  for (const name of outputs) {
    twin[name].forEach((row, h) => {
      const all = got[name]!.slice(h * stride, (h + 1) * stride);
      const filler = new Array<number>(stride - row.length).fill(UNWRITTEN);
      compareExact(`${name} of head ${h}`, all, [...row, ...filler]);
      if (!hasExactBound) return;
      const expected = oracle[name][h];
      compareWithin(`${name} of head ${h} against float64`, all.slice(0, row.length), expected, {
        element: (s) =>
          name === "cosToMean"
            ? meanCosineBound(headDim, row.length, oracle.meanNorm[h])
            : sumBound(expected[s], headDim, 4),
      });
    });
  }
  expect(got.nonfinite).toBe(nonfiniteIn(twin, outputs));
}

interface Stats {
  readonly dtype: FloatDType;
  readonly D: number;
  readonly T: number;
  readonly codec: "raw" | "codebook" | "mixed";
  readonly rope: "none" | "norm" | "neox";
  readonly rotated: boolean | "mixed";
  readonly reindex: boolean;
  readonly share: number;
  readonly layout: Layout;
  readonly refBytes: 2 | 4;
  readonly pattern: Pattern;
}

const cases = matrix<Stats>(
  {
    dtype: ["f32", "f16", "bf16"],
    D: [8, 32, 64, 80, 96, 112, 128, 256, 512],
    T: [0, 1, 2, 31, 33, 63, 64, 65, 97, 129, large(1025)],
    codec: ["raw", "codebook", "mixed"],
    rope: ["none", "norm", "neox"],
    rotated: [false, true, "mixed"],
    reindex: [false, true],
    share: [1, 0.5],
    layout: ["contiguous", "padded", "sliced"],
    refBytes: [2, 4],
    pattern: ["normal", "equal", "ties", "subnormal", "outlier", "inf", "nan"],
  },
  {
    seed: 171,
    allow: (c) =>
      c.T * c.D <= 140_000 && (!c.reindex || (c.rotated === false && c.rope !== "none")),
    isLarge: (c) => c.T * c.D > 8_500,
  },
);

describeOp("norms and cosines have the bits of the contract", (backend, device) => {
  for (const T of [0, 1, 2, 31, 33, 63, 64, 65, 97, 129, 1025]) {
    const some = cases.casesFor(backend).filter((c) => c.T === T);
    if (some.length === 0) continue;
    it(`over ${T} slots and a second, ragged head`, async () => {
      await runCases(device, some, async (c, arena, random) => {
        const heads = [c.T, Math.floor(c.T / 3)].map((slots, h) =>
          makeHead(random.fork(`${h}`), {
            ...{ headDim: c.D, dtype: c.dtype, slots, codec: c.codec, rotated: c.rotated },
            ...{ runs: 3, pattern: c.pattern, hasMask: true, hasBeta: true, step: 2 },
          }),
        );
        const rope =
          c.rope === "none"
            ? {}
            : {
                rope: makeRope({
                  positions: 2 * c.T + 8,
                  nRot: c.D * c.share,
                  style: c.rope,
                }),
              };
        const values = { headDim: c.D, heads, reindex: c.reindex, ...rope };
        await checkStats(arena, values, c, c.pattern === "normal");
      });
    });
  }
});

describeOp("an output that is left out changes no other", (_, device) => {
  for (const name of kOutputs) {
    it(`${name} alone`, async () => {
      await runCase(device, "seed=172", async (arena, random) => {
        const heads = [70, 5].map((slots) =>
          makeHead(random, { headDim: 64, dtype: "bf16", slots, codec: "mixed", runs: 2 }),
        );
        const rope = makeRope({ positions: 80, nRot: 64, style: "neox" });
        const values = { headDim: 64, heads, reindex: false, rope };
        await checkStats(arena, values, { dtype: "bf16", outputs: [name] });
      });
    });
  }
  it("none at all", async () => {
    await runCase(device, "seed=173", async (arena, random) => {
      const heads = [makeHead(random, { headDim: 8, dtype: "f32", slots: 9 })];
      await checkStats(arena, { headDim: 8, heads, reindex: false }, { dtype: "f32", outputs: [] });
    });
  });
});

describeOp("the norms do not depend on how keys are turned", (_, device) => {
  it("with, without and with re-indexed RoPE", async () => {
    await runCase(device, "seed=174", async (arena, random) => {
      const heads = [makeHead(random, { headDim: 32, dtype: "f16", slots: 90, step: 3 })];
      const rope = makeRope({ positions: 300, nRot: 32, style: "norm" });
      const run = (extra: object) =>
        runStats(arena, { headDim: 32, heads, reindex: false, ...extra }, { dtype: "f16" });
      const plain = await run({});
      const turned = await run({ rope });
      const reindexed = await run({ rope, reindex: true });
      for (const other of [turned, reindexed]) {
        expect(other.kNorm).toEqual(plain.kNorm);
        expect(other.cosToMean).not.toEqual(plain.cosToMean);
      }
      expect(reindexed.cosToMean).not.toEqual(turned.cosToMean);
    });
  });
});

describeOp("cutting the same slots into other runs changes no bit", (_, device) => {
  for (const size of [1, 5, 64, 90]) {
    it(`runs of at most ${size}`, async () => {
      await runCase(device, `seed=175 size=${size}`, async (arena, random) => {
        for (const codec of ["raw", "codebook"] as const) {
          const head = makeHead(random, { headDim: 64, dtype: "f16", slots: 130, codec });
          const values = { headDim: 64, heads: [head], reindex: false };
          const whole = await runStats(arena, values, { dtype: "f16" });
          const heads = [cutHead(head, size, 64)];
          expect(await runStats(arena, { ...values, heads }, { dtype: "f16" })).toEqual(whole);
        }
      });
    });
  }
});

describeOp("zero keys have no direction", (_, device) => {
  it("their cosine is 0, and the others' as if they were not there", async () => {
    await runCase(device, "seed=176", async (arena, random) => {
      const [run] = makeHead(random, { headDim: 8, dtype: "f32", slots: 4 });
      const k = run.k.slice().fill(0, 8, 16);
      const got = await runStats(
        arena,
        { headDim: 8, heads: [[{ ...run, k }]], reindex: false },
        { dtype: "f32" },
      );
      expect(got.kNorm![1]).toBe(0);
      expect(got.cosToMean![1]).toBe(0);
      expect(got.nonfinite).toBe(0);
      const none = { ...run, k: k.fill(0) };
      const all = { headDim: 8, heads: [[none]], reindex: false };
      expect((await runStats(arena, all, { dtype: "f32" })).cosToMean).toEqual([0, 0, 0, 0]);
    });
  });
});

describeOp("norms that are not finite are counted", (_, device) => {
  it("each once, added to what was there", async () => {
    await runCase(device, "seed=177", async (arena, random) => {
      const [run] = makeHead(random, { headDim: 16, dtype: "f16", slots: 80 });
      const k = run.k.slice();
      const v = run.v.slice();
      k[3 * 16] = Number.NaN;
      k[70 * 16 + 5] = Number.POSITIVE_INFINITY;
      v[79 * 16 + 15] = Number.NEGATIVE_INFINITY;
      const values = { headDim: 16, heads: [[{ ...run, k, v }]], reindex: false };
      const count = async (outputs: readonly Output[]) =>
        (await runStats(arena, values, { dtype: "f16", outputs }, 100)).nonfinite;
      expect(await count(kOutputs)).toBe(100 + 2 + 1 + 1);
      expect(await count(["cosToMean"])).toBe(102);
      expect(await count(["kNorm", "vL1"])).toBe(103);
      expect(await count(["vNorm"])).toBe(101);
      expect(await count([])).toBe(100);
    });
  });
});
