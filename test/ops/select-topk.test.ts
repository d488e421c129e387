// select_topk: exactly the oracle's selection. Larger score first, ties to the smaller index, NaN last.
import { expect, it } from "vitest";
import { describeOp, runCase, runCases } from "../harness/backends.ts";
import { large, matrix } from "../harness/cases.ts";
import type { Layout } from "../harness/layouts.ts";
import type { Prng } from "../harness/prng.ts";
import { checkSelection, runSelection } from "../harness/selection.ts";
import { makeValues, PATTERNS, type Pattern } from "../harness/values.ts";
import type { SelectCase } from "../oracle/select-topk.ts";

type Budget = "none" | "one" | "half" | "all-but-one" | "all" | "more";

function budget(name: Budget, length: number): number {
  const half = Math.floor(length / 2);
  return {
    none: 0,
    one: 1,
    half,
    "all-but-one": Math.max(0, length - 1),
    all: length,
    more: length + 7,
  }[name];
}

// Scores as they come: with infinities and NaN strewn in, or the plain patterns.
function makeScores(
  pattern: Pattern | "all-nan" | "all-minus-inf",
  length: number,
  random: Prng,
): Float32Array {
  if (pattern === "all-nan") return new Float32Array(length).fill(Number.NaN);
  if (pattern === "all-minus-inf") return new Float32Array(length).fill(-Infinity);
  const scores = makeValues(pattern, length, "f32", random);
  if (pattern !== "nan" && pattern !== "inf") return scores;
  const specials = [Number.NaN, Infinity, -Infinity, 0, -0];
  return scores.map((x) => (random.uniform() < 0.3 ? random.pick(specials) : x));
}

interface Rows {
  readonly T: number;
  readonly rows: number;
  readonly k: Budget;
  readonly sinks: number;
  readonly recent: number;
  readonly layout: Layout;
  readonly pattern: Pattern | "all-nan" | "all-minus-inf";
}

const plain = matrix<Rows>(
  {
    T: [0, 1, 2, 31, 32, 33, 63, 64, 65, 97, 1025, large(4097)],
    rows: [1, 3],
    k: ["none", "one", "half", "all-but-one", "all", "more"],
    sinks: [0, 4, 100],
    recent: [0, 8, 100],
    layout: ["contiguous", "padded", "sliced"],
    pattern: [...PATTERNS, "all-nan", "all-minus-inf"],
  },
  { seed: 101 },
);

describeOp("every row keeps its best k and its protected slots", (backend, device) => {
  for (const pattern of [...PATTERNS, "all-nan", "all-minus-inf"] as const) {
    it(`scores: ${pattern}`, async () => {
      const cases = plain.casesFor(backend).filter((c) => c.pattern === pattern);
      await runCases(device, cases, async (c, arena, random) => {
        // Rows are ragged, and so is k.
        const lengths = Array.from({ length: c.rows }, (_, r) => Math.max(0, c.T - 5 * r));
        const rows = lengths.map((length) => makeScores(pattern, length, random));
        const k = lengths.map((length) => budget(c.k, length));
        await checkSelection(arena, { ...c, rows, k }, c);
      });
    });
  }
});

interface Pools {
  readonly T: number;
  readonly P: number;
  readonly sets: number;
  readonly k: Budget;
  readonly floor: number;
  readonly protect: boolean;
  readonly pattern: Pattern | "all-nan";
}

const pools = matrix<Pools>(
  {
    T: [0, 1, 2, 33, 64, 97, large(1025)],
    P: [2, 3, 8],
    sets: [1, 3],
    k: ["none", "one", "half", "all", "more"],
    floor: [0, 1, 16, 200],
    protect: [true, false],
    pattern: [...PATTERNS, "all-nan"],
  },
  { seed: 102 },
);

describeOp("across heads: a floor each, the rest to the best anywhere", (backend, device) => {
  for (const P of [2, 3, 8]) {
    it(`${P} rows share a total`, async () => {
      const cases = pools.casesFor(backend).filter((c) => c.P === P);
      await runCases(device, cases, async (c, arena, random) => {
        const lengths = Array.from({ length: P * c.sets }, (_, r) => Math.max(0, c.T - (r % P)));
        const rows = lengths.map((length) => makeScores(c.pattern, length, random));
        const k = Array.from({ length: c.sets }, () => budget(c.k, P * c.T));
        const protection = c.protect ? { sinks: 2, recent: 5 } : {};
        await checkSelection(arena, { rows, k, poolRows: P, floor: c.floor, ...protection });
      });
    });
  }
});

interface Unions {
  readonly T: number;
  readonly G: number;
  readonly heads: number;
  readonly k: Budget;
  readonly protect: boolean;
  readonly pattern: Pattern;
}

const unions = matrix<Unions>(
  {
    T: [0, 1, 2, 33, 64, 97, large(1025)],
    G: [1, 2, 3, 4, 8, 16],
    heads: [1, 2],
    k: ["none", "one", "half", "all", "more"],
    protect: [true, false],
    pattern: PATTERNS,
  },
  { seed: 103 },
);

describeOp("the union of a group says who selected what", (backend, device) => {
  for (const G of [1, 2, 3, 4, 8, 16]) {
    it(`groups of ${G}`, async () => {
      const cases = unions.casesFor(backend).filter((c) => c.G === G);
      await runCases(device, cases, async (c, arena, random) => {
        const rows: Float32Array[] = [];
        for (let r = 0; r < c.heads * G; r++) {
          rows.push(makeScores(c.pattern, Math.max(0, c.T - Math.floor(r / G)), random));
        }
        const k = rows.map((row) => budget(c.k, row.length));
        const protection = c.protect ? { sinks: 4, recent: 8 } : {};
        await checkSelection(
          arena,
          { rows, k, unionGroup: G, ...protection },
          { layout: "padded", hasMasks: true },
        );
      });
    });
  }
});

describeOp("indices just wide enough for the result are enough", (backend, device) => {
  it("per row, across heads and in unions, in every layout", async () => {
    const tight = matrix<{ layout: Layout; mode: "rows" | "pools" | "unions"; T: number }>(
      {
        layout: ["contiguous", "padded", "sliced"],
        mode: ["rows", "pools", "unions"],
        T: [40, 333],
      },
      { seed: 106 },
    );
    await runCases(device, tight.casesFor(backend), async (c, arena, random) => {
      const rows = Array.from({ length: 4 }, () => makeValues("normal", c.T, "f32", random));
      const values: SelectCase = {
        rows,
        k: c.mode === "pools" ? [30, 20] : [9, 8, 7, 6],
        ...(c.mode === "pools" && { poolRows: 2, floor: 2 }),
        ...(c.mode === "unions" && { unionGroup: 2 }),
        ...{ sinks: 1, recent: 2 },
      };
      // The width that is asked for follows from the budgets alone: a set's total may go to one row.
      const outWidth = { rows: 9, pools: 30, unions: 9 + 8 }[c.mode] + 3;
      await checkSelection(arena, values, { layout: c.layout, outWidth, hasMasks: true });
    });
  });
});

describeOp(
  "a row of 1,000,000 scores",
  (_, device) => {
    for (const [pattern, k] of [
      ["normal", 1000],
      ["equal", 500_000],
      ["ties", 1],
      ["ties", 999_950],
    ] as const) {
      it(`${pattern}, k of ${k}`, async () => {
        await runCase(device, `seed=104 T=1000000 ${pattern} k=${k}`, async (arena, random) => {
          const row = makeValues(pattern, 1_000_000, "f32", random);
          await checkSelection(arena, { rows: [row], k: [k], sinks: 4, recent: 32 });
        });
      });
    }
  },
  ["cpu", "cuda"],
);

// Long rows may be judged by a sample first. Here a few hundred scores at even distances are nothing like the rest.
const kMisleading: Readonly<
  Record<string, (normal: number, isSampled: boolean, at: number) => number>
> = {
  "sample far below": (normal, isSampled) => (isSampled ? -100 : normal),
  "sample far above": (normal, isSampled) => (isSampled ? 100 : normal),
  "sample all NaN": (normal, isSampled) => (isSampled ? Number.NaN : normal),
  "all NaN but the sample": (normal, isSampled) => (isSampled ? normal : Number.NaN),
  "mostly zeros": (normal) => Math.max(0, normal - 1.5),
  "two values": (normal) => (normal > 0.84 ? 2 : 1),
  ascending: (_, __, at) => at,
};

describeOp("long rows are cut exactly whatever a sample of them says", (backend, device) => {
  const T = backend === "simt" ? 9001 : 20_011;
  for (const [name, scoreOf] of Object.entries(kMisleading)) {
    it(name, async () => {
      await runCase(device, `seed=107 T=${T} ${name}`, async (arena, random) => {
        const sampled = new Set(
          Array.from({ length: 512 }, (_, i) => Math.floor(((i + 0.5) / 512) * T)),
        );
        const rows = Array.from({ length: 6 }, () =>
          Float32Array.from({ length: T }, (_, at) =>
            scoreOf(random.normal(), sampled.has(at), at),
          ),
        );
        const k = [1, 100, Math.round(0.2 * T), Math.round(0.9 * T), T - 1, T];
        await checkSelection(arena, { rows, k });
        await checkSelection(arena, { rows, k: [T], poolRows: 6, floor: 50 });
        await checkSelection(arena, { rows, k, unionGroup: 3 });
      });
    });
  }
});

describeOp("a repeated call gives the same selection", (_, device) => {
  it("on scores full of ties", async () => {
    await runCase(device, "seed=105", async (arena, random) => {
      const rows = Array.from({ length: 4 }, () => makeValues("ties", 333, "f32", random));
      const values: SelectCase = { rows, k: [50, 60, 70, 80], unionGroup: 2 };
      const first = await runSelection(arena, values);
      expect(await runSelection(arena, values)).toEqual(first);
    });
  });
});
