// attend for more rows (query heads of a group times queries) than a stream takes: blocks of rows of every size,
// and numbers that a matrix unit would get wrong.
import { expect, it } from "vitest";
import { checkAttend, runAttend } from "../harness/attention.ts";
import { describeOp, runCase, runCases } from "../harness/backends.ts";
import type { Device } from "../harness/api.ts";
import { large, matrix } from "../harness/cases.ts";
import { compareWithin } from "../harness/compare.ts";
import { lastPosition, logitScaleOf, makeHead, makeRope } from "../harness/heads.ts";
import { attendOracle } from "../harness/oracles.ts";
import type { Prng } from "../harness/prng.ts";
import { attentionFloor } from "../harness/tolerance.ts";
import { type FinitePattern, makeValues } from "../harness/values.ts";
import type { FloatDType } from "../oracle/float-formats.ts";
import type { QueryValues } from "../oracle/types.ts";

interface Block {
  readonly dtype: FloatDType;
  readonly qDtype: FloatDType;
  readonly D: number;
  /** Group and queries. */
  readonly rows: readonly [number, number];
  readonly T: number;
  readonly codec: "raw" | "codebook" | "mixed";
  readonly sight: "all" | "causal" | "masked";
  readonly turned: boolean;
  readonly scores: "none" | "query-head" | "kv-head";
  readonly pattern: FinitePattern;
}

const blocks = matrix<Block>(
  {
    dtype: ["f32", "f16", "bf16"],
    qDtype: ["f32", "f16", "bf16"],
    D: [8, 40, 64, 72, 128, 256],
    rows: [
      [1, 13],
      [3, 11],
      [8, 6],
      [4, 16],
      [16, 8],
      [4, 33],
      large<readonly [number, number]>([1, 130]),
    ],
    T: [1, 31, 33, 63, 64, 65, 129, large(200)],
    codec: ["raw", "codebook", "mixed"],
    sight: ["all", "causal", "masked"],
    turned: [false, true],
    scores: ["none", "query-head", "kv-head"],
    pattern: ["normal", "ties", "subnormal", "outlier"],
  },
  { seed: 35 },
);

function blockOf(random: Prng, c: Block): QueryValues {
  const [group, queries] = c.rows;
  const heads = [c.T, 17].map((slots, h) =>
    makeHead(random.fork(`head ${h}`), {
      headDim: c.D,
      dtype: c.dtype,
      slots,
      codec: c.codec,
      runs: c.codec === "mixed" ? 3 : 1,
      pattern: c.pattern,
      rotated: !c.turned,
      group,
      hasMask: c.sight === "masked",
      hasBeta: c.sight === "masked",
    }),
  );
  const queryPosition = Math.max(0, lastPosition(heads) - Math.floor(queries / 2));
  return {
    headDim: c.D,
    group,
    queries,
    q: makeValues("normal", heads.length * group * queries * c.D, c.qDtype, random.fork("q")),
    heads,
    scale: 1 / Math.sqrt(c.D),
    causal: c.sight === "causal",
    queryPosition,
    ropeQueryPosition: queryPosition,
    reindex: false,
    ...(c.turned && { rope: makeRope({ positions: 512, nRot: c.D, style: "neox" }) }),
  };
}

describeOp("blocks of many rows are the dense formula", (backend, device) => {
  for (const dtype of ["f32", "f16", "bf16"] as const) {
    it(`in ${dtype}: every size of block, tile and head dim, codec, sight and kind of score`, async () => {
      const cases = blocks.casesFor(backend).filter((c) => c.dtype === dtype);
      await runCases(device, cases, async (c, arena, random) => {
        const scoreMode = c.scores === "none" ? undefined : c.scores;
        await checkAttend(arena, blockOf(random, c), { dtype, qDtype: c.qDtype, scoreMode });
      });
    });
  }
});

const HEAD_DIM = 64;
const GROUP = 2;
const QUERIES = 20;

interface Odd {
  readonly value: number;
  readonly part: "k" | "v" | "q";
  /** Row of K, V or Q, and dim in it. */
  readonly row: number;
  readonly dim: number;
}

/** 150 slots; every query sees them all. */
function oddBlock(random: Prng, dtype: FloatDType, { value, part, row, dim }: Odd) {
  const [run] = makeHead(random, { headDim: HEAD_DIM, dtype, slots: 150 });
  const q = makeValues("normal", GROUP * QUERIES * HEAD_DIM, dtype, random.fork("q"));
  const clean: QueryValues = {
    headDim: HEAD_DIM,
    group: GROUP,
    queries: QUERIES,
    q,
    heads: [[run]],
    scale: 1 / Math.sqrt(HEAD_DIM),
    causal: false,
    queryPosition: 150,
    ropeQueryPosition: 150,
    reindex: false,
  };
  const changed = (rows: Float32Array) => {
    const result = rows.slice();
    result[row * HEAD_DIM + dim] = value;
    return result;
  };
  const odd: QueryValues =
    part === "q"
      ? { ...clean, q: changed(q) }
      : { ...clean, heads: [[{ ...run, [part]: changed(run[part]) }]] };
  return { clean, odd };
}

const odds: [string, Odd][] = [
  ["NaN in a value", { value: Number.NaN, part: "v", row: 70, dim: 9 }],
  ["infinity in a value", { value: Infinity, part: "v", row: 0, dim: 63 }],
  ["-infinity in the last value", { value: -Infinity, part: "v", row: 149, dim: 0 }],
  ["NaN in a key", { value: Number.NaN, part: "k", row: 64, dim: 31 }],
  ["infinity in the last key", { value: Infinity, part: "k", row: 149, dim: 5 }],
  ["NaN in a query", { value: Number.NaN, part: "q", row: 33, dim: 17 }],
  ["infinity in a query", { value: Infinity, part: "q", row: 3, dim: 40 }],
];

function checkOdds(device: Device, cases: readonly [string, Odd][]): void {
  for (const dtype of ["f32", "f16", "bf16"] as const) {
    for (const [name, at] of cases) {
      it(`${name}, ${dtype}`, async () => {
        await runCase(device, `seed=36 ${dtype} ${name}`, async (arena, random) => {
          const { clean, odd } = oddBlock(random, dtype, at);
          const setting = { dtype, qDtype: dtype };
          const got = await runAttend(arena, odd, setting);
          const expected = attendOracle(odd);
          const floor = attentionFloor({
            ...logitScaleOf(clean),
            ...{ dtype, outDtype: dtype, largestOutput: 4, largestValue: 4 },
          });
          compareWithin("out", got.out, expected.out, { element: () => floor });
          if (at.part !== "q") return;
          // The other rows have the bits they have without it.
          const before = await runAttend(arena, clean, setting);
          const others = (out: ArrayLike<number>) =>
            Array.from(out).filter((_, i) => Math.floor(i / HEAD_DIM) !== at.row);
          expect(others(got.out)).toEqual(others(before.out));
        });
      });
    }
  }
}

describeOp("NaN reaches what it must, and nothing else", (_, device) => {
  checkOdds(
    device,
    odds.filter(([, { value }]) => Number.isNaN(value)),
  );
});

// Products of parts make NaN of infinity on CUDA: the contract in core/ops.h allows it.
describeOp(
  "infinity is a number like others",
  (_, device) => {
    checkOdds(
      device,
      odds.filter(([, { value }]) => !Number.isNaN(value)),
    );
  },
  ["cpu"],
);

describeOp("values near the smallest normal number are not lost", (_, device) => {
  it("bf16 values of 2^-112 to 2^-132, in tiles of their own and between larger ones", async () => {
    await runCase(device, "seed=37", async (arena, random) => {
      const [run] = makeHead(random, { headDim: HEAD_DIM, dtype: "bf16", slots: 150 });
      // Head 0 sees only the small ones, head 1 all.
      const isSmall = (slot: number) => slot >= 64 && (slot < 128 || slot % 2 === 0);
      const v = run.v.map((x, i) => {
        const slot = Math.floor(i / HEAD_DIM);
        return isSmall(slot) ? (slot % 2 === 0 ? 1.5 : 1) * 2 ** -(112 + (slot % 21)) : x;
      });
      const mask = Uint16Array.from({ length: 150 }, (_, slot) => (isSmall(slot) ? 0b11 : 0b10));
      const { clean } = oddBlock(random, "bf16", odds[0][1]);
      const heads = [[{ ...run, v, mask }]];
      const setting = { dtype: "bf16", qDtype: "bf16" } as const;
      const got = await runAttend(arena, { ...clean, heads }, setting);
      const expected = attendOracle({ ...clean, heads });
      const half = QUERIES * HEAD_DIM;
      for (const [from, largestValue] of [
        [0, 2 ** -111],
        [half, 4],
      ]) {
        const floor = attentionFloor({
          ...logitScaleOf(clean),
          ...{ dtype: "bf16", outDtype: "bf16", largestOutput: largestValue, largestValue },
        });
        const part = (out: ArrayLike<number>) => Array.from(out).slice(from, from + half);
        compareWithin("out", part(got.out), part(expected.out), { element: () => floor });
      }
      expect(Math.abs(expected.out[0])).toBeGreaterThan(0);
    });
  });
});
