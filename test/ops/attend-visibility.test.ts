// Which slots a query of attend sees: masks, causality, ragged and empty heads; what is hidden has no influence.
import { expect, it } from "vitest";
import { checkAttend, runAttend } from "../harness/attention.ts";
import { describeOp, runCase, runCases } from "../harness/backends.ts";
import { matrix } from "../harness/cases.ts";
import { lastPosition, makeHead } from "../harness/heads.ts";
import type { Prng } from "../harness/prng.ts";
import { makeValues } from "../harness/values.ts";
import type { FloatDType } from "../oracle/float-formats.ts";
import type { HeadValues, QueryValues, RunValues } from "../oracle/types.ts";

interface Visibility {
  readonly dtype: FloatDType;
  readonly G: number;
  readonly Tq: number;
  readonly codec: "raw" | "codebook" | "mixed";
  readonly mask: boolean;
  readonly causal: boolean;
  readonly step: number;
}

const HEAD_DIM = 64;

const visibility = matrix<Visibility>(
  {
    dtype: ["f32", "f16", "bf16"],
    G: [1, 3, 8, 16],
    Tq: [1, 4, 19],
    codec: ["raw", "codebook", "mixed"],
    mask: [true, false],
    causal: [true, false],
    step: [1, 4],
  },
  { seed: 31 },
);

function queryOver(
  random: Prng,
  heads: readonly HeadValues[],
  rest: Partial<QueryValues> & { dtype: FloatDType },
): QueryValues {
  const { dtype, group = 1, queries = 1, ...others } = rest;
  return {
    headDim: HEAD_DIM,
    group,
    queries,
    q: makeValues("normal", heads.length * group * queries * HEAD_DIM, dtype, random.fork("q")),
    heads,
    scale: 1 / Math.sqrt(HEAD_DIM),
    causal: true,
    queryPosition: lastPosition(heads),
    ropeQueryPosition: 0,
    reindex: false,
    ...others,
  };
}

describeOp("a query sees the slots of its mask bit up to its own position", (backend, device) => {
  it("over ragged heads of several runs, one of them empty", async () => {
    await runCases(device, visibility.casesFor(backend), async (c, arena, random) => {
      const heads = [70, 0, 33, 1].map((slots, h) =>
        makeHead(random.fork(`head ${h}`), {
          headDim: HEAD_DIM,
          dtype: c.dtype,
          slots,
          codec: c.codec,
          runs: 1 + (h % 3),
          group: c.G,
          hasMask: c.mask,
          hasBeta: h % 2 === 0,
          step: c.step,
        }),
      );
      // The queries start in the middle, so that causality hides some slots from all of them.
      const queryPosition = Math.floor(lastPosition(heads) / 2);
      const values = queryOver(random, heads, {
        dtype: c.dtype,
        group: c.G,
        queries: c.Tq,
        causal: c.causal,
        queryPosition,
      });
      await checkAttend(arena, values, {
        dtype: c.dtype,
        qDtype: c.dtype,
        scoreMode: "query-head",
      });
    });
  });
});

describeOp("a query without a visible slot gives 0 and -inf", (_, device) => {
  const blind: [string, (run: RunValues) => RunValues, Partial<QueryValues>][] = [
    ["all slots masked", (run) => ({ ...run, mask: new Uint16Array(run.slots) }), {}],
    [
      "all slots later",
      (run) => ({ ...run, positions: run.positions.map((p) => p + 9) }),
      { queryPosition: 8 },
    ],
    [
      "only the other head's bit set",
      (run) => ({ ...run, mask: new Uint16Array(run.slots).fill(0b10) }),
      {},
    ],
  ];
  for (const [name, change, rest] of blind) {
    it(name, async () => {
      await runCase(device, `seed=32 ${name}`, async (arena, random) => {
        const head = makeHead(random, { headDim: HEAD_DIM, dtype: "f16", slots: 67 }).map(change);
        const values = queryOver(random, [head], { dtype: "f16", group: 2, ...rest });
        const got = await checkAttend(arena, values, {
          dtype: "f16",
          qDtype: "f16",
          scoreMode: "query-head",
        });
        expect(Array.from(got.out).slice(0, HEAD_DIM)).toEqual(new Array(HEAD_DIM).fill(0));
        expect(got.lse[0]).toBe(-Infinity);
        expect(Array.from(got.scoreSum!).slice(0, 67)).toEqual(new Array(67).fill(0));
      });
    });
  }
});

describeOp("what a query cannot see has no influence, whatever it holds", (_, device) => {
  const poison = (run: RunValues, slots: number[], value: number, part: "k" | "v"): RunValues => {
    const rows = run[part].slice();
    for (const slot of slots) rows.fill(value, slot * HEAD_DIM, (slot + 1) * HEAD_DIM);
    return { ...run, [part]: rows };
  };
  for (const dtype of ["f32", "f16", "bf16"] as const) {
    for (const value of [Number.NaN, Infinity]) {
      for (const part of ["k", "v"] as const) {
        it(`${value} in ${part} of masked and of later slots, ${dtype}`, async () => {
          await runCase(device, `seed=33 ${dtype} ${value} ${part}`, async (arena, random) => {
            for (const queries of [1, 18]) {
              const mask = Uint16Array.from({ length: 80 }, (_, s) =>
                s === 3 || s === 66 ? 0b10 : 0b01,
              );
              const [clean] = makeHead(random, { headDim: HEAD_DIM, dtype, slots: 80 });
              const run = { ...clean, mask };
              const values = queryOver(random, [[run]], {
                dtype,
                queries,
                queryPosition: 79 - queries - 4,
              });
              const setting = { dtype, qDtype: dtype };
              const expected = await runAttend(arena, values, setting);
              // Slots 3 and 66 are masked; 76 to 79 come after the last query.
              const poisoned = poison(run, [3, 66, 76, 77, 79], value, part);
              const got = await runAttend(arena, { ...values, heads: [[poisoned]] }, setting);
              expect(got.out).toEqual(expected.out);
              expect(got.lse).toEqual(expected.lse);
            }
          });
        });
      }
    }
  }
});

describeOp("NaN that a query does see reaches its result", (_, device) => {
  for (const dtype of ["f32", "f16", "bf16"] as const) {
    it(`in one dim of V it stays in that dim, in K it takes the row, ${dtype}`, async () => {
      await runCase(device, `seed=34 ${dtype}`, async (arena, random) => {
        const [run] = makeHead(random, { headDim: HEAD_DIM, dtype, slots: 70 });
        const values = queryOver(random, [[run]], { dtype });
        const setting = { dtype, qDtype: dtype };
        const v = run.v.slice();
        v[5 * HEAD_DIM + 9] = Number.NaN;
        const inValue = await runAttend(arena, { ...values, heads: [[{ ...run, v }]] }, setting);
        const nanDims = Array.from(inValue.out).flatMap((x, d) => (Number.isNaN(x) ? [d] : []));
        expect(nanDims).toEqual([9]);
        const k = run.k.slice();
        k[65 * HEAD_DIM + 2] = Number.NaN;
        const inKey = await runAttend(arena, { ...values, heads: [[{ ...run, k }]] }, setting);
        expect(Array.from(inKey.out).every(Number.isNaN)).toBe(true);
        expect(inKey.lse[0]).toBeNaN();
      });
    });
  }
});
