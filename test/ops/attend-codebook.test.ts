// attend over references into codewords: every way that its scores and values are computed, against the oracle.
import { expect, it } from "vitest";
import { checkAttend } from "../harness/attention.ts";
import { describeOp, runCase, runCases } from "../harness/backends.ts";
import { large, matrix } from "../harness/cases.ts";
import { type HeadOptions, lastPosition, makeHead, makeRope } from "../harness/heads.ts";
import type { Prng } from "../harness/prng.ts";
import { makeValues } from "../harness/values.ts";
import { type FloatDType, roundTo } from "../oracle/float-formats.ts";
import type { HeadValues, QueryValues, RopeValues } from "../oracle/types.ts";

/** A decode step over `heads` with random queries. */
function decode(
  random: Prng,
  heads: readonly HeadValues[],
  options: { headDim: number; group: number; dtype: FloatDType; queries?: number },
): QueryValues {
  const { headDim, group, dtype, queries = 1 } = options;
  const queryPosition = Math.max(0, lastPosition(heads) - queries + 1);
  return {
    headDim,
    group,
    queries,
    q: makeValues("normal", heads.length * group * queries * headDim, dtype, random.fork("q")),
    heads,
    scale: 1 / Math.sqrt(headDim),
    causal: true,
    queryPosition,
    ropeQueryPosition: queryPosition,
    reindex: false,
  };
}

const codebookHeads = (
  random: Prng,
  slots: readonly number[],
  options: Omit<HeadOptions, "slots">,
) =>
  slots.map((count, h) =>
    makeHead(random.fork(`${h}`), { codec: "codebook", ...options, slots: count }),
  );

/** What a table can be: cosines and sines; longer than 1 (YaRN); of angles that do not grow evenly. */
type Table = "unit" | "scaled" | "bent" | "turned";

function tableOf(kind: Table, rope: RopeValues): RopeValues {
  if (kind === "unit") return rope;
  const { nRot } = rope;
  const rows = rope.cosSin.length / nRot;
  const row = (p: number) => rope.cosSin.subarray(p * nRot, (p + 1) * nRot);
  const cosSin = rope.cosSin.slice();
  for (let p = 0; p < rows; p++) {
    if (kind === "scaled")
      cosSin.set(
        row(p).map((x) => x * 1.2),
        p * nRot,
      );
    // Other angles from the middle of a block on: its first and last rows do not belong together.
    if (kind === "bent" && p >= 96) cosSin.set(row(p >> 1), p * nRot);
    // No row is without sines.
    if (kind === "turned") cosSin.set(row(Math.min(rows - 1, p + 3)), p * nRot);
  }
  return { ...rope, cosSin };
}

interface Turning {
  readonly dtype: FloatDType;
  readonly D: number;
  readonly group: number;
  readonly style: "norm" | "neox";
  readonly nRot: number;
  readonly step: number;
  readonly table: Table;
  readonly reindex: boolean;
  readonly codec: "raw" | "codebook" | "mixed";
}

const turning = matrix<Turning>(
  {
    dtype: ["f32", "f16", "bf16"],
    D: [16, 48, 64, 80, 128, large(256), large(512)],
    group: [1, 3, 4, 5, 16],
    style: ["norm", "neox"],
    nRot: [8, 16, 36, 48, 64, 80, 128],
    // Dense blocks of 64 positions, blocks of few slots, blocks of one slot.
    step: [1, 4, 40],
    table: ["unit", "scaled", "bent", "turned"],
    reindex: [true, false],
    codec: ["raw", "codebook", "mixed"],
  },
  { seed: 71, allow: (c) => c.nRot <= c.D, isLarge: (c) => c.D * c.group > 1024 },
);

interface Plain {
  readonly dtype: FloatDType;
  readonly D: number;
  readonly group: number;
  readonly queries: number;
  readonly codewords: number;
  readonly hasMask: boolean;
  readonly hasBeta: boolean;
  readonly refBytes: 2 | 4;
  readonly scoreMode: "query-head" | "kv-head";
}

const plain = matrix<Plain>(
  {
    dtype: ["f32", "f16", "bf16"],
    D: [8, 24, 64, 128, 160],
    group: [1, 2, 3, 7, 8],
    queries: [1, 2],
    // One for all, some more than a quad, one a slot, more than are worth a product each.
    codewords: [1, 37, 131, 700],
    hasMask: [true, false],
    hasBeta: [true, false],
    refBytes: [2, 4],
    scoreMode: ["query-head", "kv-head"],
  },
  { seed: 72 },
);

describeOp("keys before RoPE turn by their block and their place in it", (backend, device) => {
  for (const table of ["unit", "scaled", "bent", "turned"] as const) {
    it(`a ${table} table: dense and sparse blocks, partial turns, reindexing`, async (context) => {
      // Rows that do not compose are outside the contract (core/types.h). The CPU sees it and turns
      // each key by its own row, which is tested here; CUDA trusts the table.
      if (backend !== "cpu" && (table === "bent" || table === "turned")) context.skip();
      const cases = turning.casesFor(backend).filter((c) => c.table === table);
      await runCases(device, cases, async (c, arena, random) => {
        const heads = codebookHeads(random, [203, 7], {
          headDim: c.D,
          dtype: c.dtype,
          codec: c.codec,
          runs: c.codec === "mixed" ? 3 : 1,
          step: c.step,
        });
        const { dtype, D: headDim, group, reindex } = c;
        const rope = makeRope({
          positions: Math.max(203, lastPosition(heads) + 1),
          nRot: c.nRot,
          style: c.style,
        });
        const values = { ...decode(random, heads, { headDim, group, dtype }), reindex };
        await checkAttend(
          arena,
          {
            ...values,
            ropeQueryPosition: reindex ? 202 : values.ropeQueryPosition,
            rope: tableOf(table, rope),
          },
          { dtype, qDtype: dtype, scoreMode: "kv-head" },
        );
      });
    });
  }
});

describeOp("codewords are shared by the slots that refer to them", (backend, device) => {
  for (const codewords of [1, 37, 131, 700]) {
    it(`${codewords} codewords for 260 slots, after RoPE, with masks and scores`, async () => {
      const cases = plain.casesFor(backend).filter((c) => c.codewords === codewords);
      await runCases(device, cases, async (c, arena, random) => {
        const { dtype, D: headDim, group, queries } = c;
        const heads = codebookHeads(random, [260, 131], {
          headDim,
          dtype,
          group,
          codewords,
          hasMask: c.hasMask,
          hasBeta: c.hasBeta,
          rotated: true,
        });
        await checkAttend(arena, decode(random, heads, { headDim, group, dtype, queries }), {
          ...{ dtype, qDtype: dtype, refBytes: c.refBytes, scoreMode: c.scoreMode },
        });
      });
    });
  }
});

describeOp("runs of both codecs meet anywhere", (_, device) => {
  it("pieces begin and end with a run, scores land at their slots", async () => {
    for (const runs of [2, 3, 7]) {
      await runCase(device, `seed=73 runs=${runs}`, async (arena, random) => {
        const options = { headDim: 64, dtype: "f16" as const };
        const heads = [517, 70].map((slots, h) =>
          makeHead(random.fork(`${h}`), { ...options, slots, runs, codec: "mixed", step: 2 }),
        );
        const rope = makeRope({ positions: 1100, nRot: 64, style: "neox" });
        const values = { ...decode(random, heads, { ...options, group: 4 }), rope };
        await checkAttend(arena, values, {
          dtype: "f16",
          qDtype: "f16",
          scoreMode: "query-head",
        });
      });
    }
  });
});

describeOp("a long run is read in several pieces", (backend, device) => {
  // The SIMT host would take minutes.
  const slots = backend === "simt" ? 1000 : 40_000;
  it(`of ${slots} slots, before and after RoPE`, async () => {
    for (const rotated of [true, false]) {
      await runCase(device, `seed=74 ${rotated ? "rotated" : "raw"}`, async (arena, random) => {
        const options = { headDim: 32, dtype: "f16" as const };
        const heads = codebookHeads(random, [slots], { ...options, codewords: 300, rotated });
        const rope = makeRope({ positions: slots, nRot: 32, style: "norm" });
        const values = { ...decode(random, heads, { ...options, group: 2 }), rope };
        await checkAttend(arena, values, { dtype: "f16", qDtype: "f16", scoreMode: "kv-head" });
      });
    }
  });
});

interface Long {
  readonly dtype: FloatDType;
  readonly D: number;
  readonly group: number;
  readonly queries: number;
  readonly codewords: number;
  readonly rope: "none" | "after" | "norm" | "neox";
  readonly nRot: number;
  readonly step: number;
  readonly reindex: boolean;
  readonly around: boolean;
  readonly hasMask: boolean;
  readonly hasBeta: boolean;
  readonly refBytes: 2 | 4;
  readonly slotsBefore: number;
  readonly scoreMode: "query-head" | "kv-head" | "none";
}

// Enough slots that CUDA takes them through their codewords, one tile of these or several.
const long = matrix<Long>(
  {
    dtype: ["f32", "f16", "bf16"],
    D: [24, 64, 128, large(200)],
    group: [1, 4, 5, large(16)],
    queries: [1, 2],
    codewords: [1, 37, 300, 1025],
    rope: ["none", "after", "norm", "neox"],
    nRot: [8, 36, 48, 128],
    step: [1, 3],
    reindex: [true, false],
    around: [true, false],
    hasMask: [true, false],
    hasBeta: [true, false],
    refBytes: [2, 4],
    slotsBefore: [0, 3, 8],
    scoreMode: ["query-head", "kv-head", "none"],
  },
  {
    seed: 77,
    // Reindexing turns keys by their slots, so all are stored before RoPE.
    allow: (c) => c.nRot <= c.D && c.group * c.queries <= 16 && !(c.reindex && c.rope === "after"),
    isLarge: (c) => c.D * c.group > 1024,
  },
);

describeOp("a run of more slots than codewords", (backend, device) => {
  for (const rope of ["none", "after", "norm", "neox"] as const) {
    it(`keys with RoPE: ${rope}; alone, and between other runs`, async () => {
      const cases = long.casesFor(backend).filter((c) => c.rope === rope);
      await runCases(device, cases, async (c, arena, random) => {
        const { dtype, D: headDim, group, queries, reindex, step, codewords } = c;
        const options = { headDim, dtype, group, hasMask: c.hasMask, hasBeta: c.hasBeta, step };
        const rotated = rope === "after";
        const book = makeHead(random.fork("book"), {
          ...{ ...options, codec: "codebook", codewords, rotated, slots: 1060 },
        });
        const raw = (name: string, first: number) =>
          makeHead(random.fork(name), {
            ...options,
            slots: 70,
            rotated: reindex ? false : "mixed",
            runs: 2,
          }).map((run) => ({ ...run, positions: run.positions.map((p) => p + first) }));
        const heads = c.around
          ? [[...raw("a", 0), ...book, ...raw("b", 1100)], raw("c", 0)]
          : [book];
        const values = decode(random, heads, { headDim, group, dtype, queries });
        const positions = Math.max(1300, lastPosition(heads) + 1);
        const table = makeRope({
          positions,
          nRot: c.nRot,
          style: rope === "norm" ? "norm" : "neox",
        });
        await checkAttend(
          arena,
          {
            ...{ ...values, reindex },
            ropeQueryPosition: reindex ? 1199 : values.ropeQueryPosition,
            ...(rope !== "none" && { rope: table }),
          },
          {
            dtype,
            qDtype: dtype,
            refBytes: c.refBytes,
            slotsBefore: c.slotsBefore,
            ...(c.scoreMode !== "none" && { scoreMode: c.scoreMode }),
          },
        );
      });
    });
  }
});

interface Turned {
  readonly dtype: FloatDType;
  readonly D: number;
  readonly group: number;
  readonly queries: number;
  readonly style: "norm" | "neox";
  readonly nRot: number;
  readonly slots: number;
  readonly order: "dense" | "few" | "single" | "shuffled" | "reindexed";
  readonly table: Table;
  readonly hasMask: boolean;
  readonly scoreMode: "query-head" | "none";
}

// Keys before RoPE that CUDA turns by blocks of 64 positions: every number of rows, dims that turn and that do not.
const turned = matrix<Turned>(
  {
    dtype: ["f16", "bf16"],
    D: [48, 64, 80, 96, 128],
    group: [1, 3, 4, 7, 8, 16],
    queries: [1, 2, 4],
    style: ["norm", "neox"],
    nRot: [16, 32, 48, 64, 80, 128],
    // One block of slots; two; one more slot than those.
    slots: [1024, 1500, 2049],
    order: ["dense", "few", "single", "shuffled", "reindexed"],
    table: ["unit", "scaled"],
    hasMask: [true, false],
    scoreMode: ["query-head", "none"],
  },
  {
    seed: 79,
    allow: (c) =>
      c.nRot <= c.D && c.group * c.queries <= 16 && (c.order !== "single" || c.slots === 1024),
  },
);

describeOp("a long run of keys before RoPE", (backend, device) => {
  for (const order of ["dense", "few", "single", "shuffled", "reindexed"] as const) {
    it(`${order} positions`, async () => {
      const cases = turned.casesFor(backend).filter((c) => c.order === order);
      await runCases(device, cases, async (c, arena, random) => {
        const { dtype, D: headDim, group, queries, slots } = c;
        const step = order === "few" ? 5 : order === "single" ? 150 : 1;
        const options = { headDim, dtype, group, codewords: 50, hasMask: c.hasMask, step };
        const [run] = makeHead(random.fork("run"), { ...options, codec: "codebook", slots });
        const places = random.fork("order").permutation(slots);
        const positions = run.positions.map((p, s) =>
          order === "shuffled" ? run.positions[places[s]] : p,
        );
        const heads = [[{ ...run, positions }]];
        const rows = order === "reindexed" ? slots : lastPosition([[run]]) + 1;
        const rope = makeRope({ positions: rows + queries, nRot: c.nRot, style: c.style });
        await checkAttend(
          arena,
          {
            ...decode(random, heads, { headDim, group, dtype, queries }),
            queryPosition: rows - queries,
            reindex: order === "reindexed",
            ropeQueryPosition: rows - 1,
            rope: tableOf(c.table, rope),
          },
          {
            dtype,
            qDtype: dtype,
            ...(c.scoreMode !== "none" && { scoreMode: c.scoreMode }),
          },
        );
      });
    });
  }
});

describeOp("a codeword that nobody sees may hold anything", (_, device) => {
  const headDim = 32;
  const spoilt = (random: Prng, mask: number, slots: number) => {
    const [run] = makeHead(random, { headDim, dtype: "f16", slots, codec: "codebook" });
    const word = run.kRef![50];
    const seesIt = (slot: number) => run.kRef![slot] === word || run.vRef![slot] === run.vRef![50];
    const k = run.k.slice();
    const v = run.v.slice();
    k.fill(Number.NaN, word * headDim, (word + 1) * headDim);
    v.fill(Infinity, run.vRef![50] * headDim, (run.vRef![50] + 1) * headDim);
    const hidden = Uint16Array.from({ length: slots }, (_, s) => (seesIt(s) ? mask : 3));
    return { ...run, k, v, mask: hidden, rotated: true };
  };
  for (const slots of [100, 1060]) {
    it(`${slots} slots, hidden from all rows`, async () => {
      await runCase(device, `seed=75 slots=${slots}`, async (arena, random) => {
        const heads = [[spoilt(random, 0, slots)]];
        const values = decode(random, heads, { headDim, group: 2, dtype: "f16" });
        await checkAttend(arena, values, { dtype: "f16", qDtype: "f16" });
      });
    });
    it(`${slots} slots: seen by one head of the group, it does not reach the other`, async () => {
      await runCase(device, `seed=76 slots=${slots}`, async (arena, random) => {
        const run = spoilt(random, 1, slots);
        // The key is fine, so the head that sees the value takes its infinities.
        const k = run.k.map((x) => (Number.isNaN(x) ? roundTo("f16", 0.1) : x));
        const values = decode(random, [[{ ...run, k }]], { headDim, group: 2, dtype: "f16" });
        const got = await checkAttend(arena, values, { dtype: "f16", qDtype: "f16" });
        expect(Array.from(got.out).slice(0, headDim).some(Number.isFinite)).toBe(false);
        expect(Array.from(got.out).slice(headDim).every(Number.isFinite)).toBe(true);
      });
    });
  }
});

describeOp("the same run gives the same bits", (_, device) => {
  it("run again, and beside other heads", async () => {
    await runCase(device, "seed=78", async (arena, random) => {
      const options = { headDim: 64, dtype: "f16" as const, codewords: 40 };
      const heads = codebookHeads(random, [1060, 1100], options);
      const rope = makeRope({ positions: 1100, nRot: 64, style: "neox" });
      const both = { ...decode(random, heads, { ...options, group: 4 }), rope };
      const setting = { dtype: "f16" as const, qDtype: "f16" as const };
      const first = await checkAttend(arena, both, setting);
      const again = await checkAttend(arena, both, setting);
      const alone = await checkAttend(
        arena,
        { ...both, heads: [heads[0]], q: Float32Array.from(both.q).slice(0, both.q.length / 2) },
        setting,
      );
      expect(again.out).toEqual(first.out);
      expect(Array.from(alone.out)).toEqual(Array.from(first.out).slice(0, first.out.length / 2));
    });
  });
});
