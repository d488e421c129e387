// attend_batch: every item gets its own attention, whatever it shares with others and in whatever order they come.
import { expect, it } from "vitest";
import { type AttendParams, openDevice, ops } from "../harness/api.ts";
import { compareAttend, type AttendSetting, readAttend } from "../harness/attention.ts";
import {
  type BatchOptions,
  checkBatch,
  kTrees,
  makeBatch,
  placeBatch,
} from "../harness/attention-batch.ts";
import { describeOp, runCase, runCases } from "../harness/backends.ts";
import { large, matrix } from "../harness/cases.ts";
import { expectRefusal } from "../harness/expect-error.ts";
import { makeHead, placeRun, sliceRun } from "../harness/heads.ts";
import type { Arena } from "../harness/tensors.ts";
import { makeValues } from "../harness/values.ts";
import type { FloatDType } from "../oracle/float-formats.ts";
import type { QueryValues } from "../oracle/types.ts";

interface Batch {
  readonly dtype: FloatDType;
  readonly qDtype: FloatDType;
  readonly D: number;
  readonly G: number;
  readonly Hkv: number;
  readonly long: number;
  readonly codec: "raw" | "codebook" | "mixed";
  readonly queries: "1" | "1,3" | "0,1,20" | "5,45";
  readonly visible: "all" | "mask" | "beta" | "mask+beta";
  readonly rope: "none" | "one" | "two" | "reindex";
  readonly scores: "none" | "query-head" | "kv-head";
}

const kTreeNames = Object.keys(kTrees) as (keyof typeof kTrees)[];

const batches = matrix<Batch>(
  {
    dtype: ["f32", "f16", "bf16"],
    qDtype: ["f32", "f16", "bf16"],
    D: [8, 64, 80, 128],
    G: [1, 3, 4, 16],
    Hkv: [1, 2],
    long: [2, 40, 64, 130, large(600), large(2100)],
    codec: ["raw", "codebook", "mixed"],
    queries: ["1", "1,3", "0,1,20", "5,45"],
    visible: ["all", "mask", "beta", "mask+beta"],
    rope: ["none", "one", "two", "reindex"],
    scores: ["none", "query-head", "kv-head"],
  },
  {
    seed: 71,
    allow: (c) => c.Hkv * c.G * c.long * c.D * Number(c.queries.split(",").at(-1)) <= 1.5e6,
    isLarge: (c) => c.Hkv * c.G * c.long * c.D * Number(c.queries.split(",").at(-1)) > 100_000,
  },
);

function optionsOf(c: Batch, tree: keyof typeof kTrees): BatchOptions {
  return {
    ...c,
    tree,
    headDim: c.D,
    group: c.G,
    kvHeads: c.Hkv,
    queries: c.queries.split(",").map(Number),
    hasMask: c.visible.startsWith("mask"),
    hasBeta: c.visible.endsWith("beta"),
  };
}

/** Every other item accumulates scores. */
function settingsOf(c: Batch, items: readonly QueryValues[]): AttendSetting[] {
  return items.map((_, i) => ({
    dtype: c.dtype,
    qDtype: c.qDtype,
    ...(c.scores !== "none" && i % 2 === 0 && { scoreMode: c.scores, scoreStart: 0.5 }),
  }));
}

/** What the cases that are not about these things have in common. */
const kPlain: BatchOptions = {
  tree: "one run",
  dtype: "f16",
  headDim: 64,
  group: 4,
  kvHeads: 1,
  long: 70,
  codec: "raw",
  queries: [1],
};

describeOp("a batch gives every item its own attention", (backend, device) => {
  for (const [at, tree] of kTreeNames.entries()) {
    it(`whose heads are made of the runs ${kTrees[tree].join(", ")} (${tree})`, async () => {
      // Each tree takes its share of the cases; all of them do in a full run.
      const cases = batches
        .casesFor(backend)
        .filter((_, i) => process.env.SPINDLEKV_FULL === "1" || i % kTreeNames.length === at);
      await runCases(device, cases, async (c, arena, random) => {
        const items = makeBatch(random, optionsOf(c, tree), c.qDtype);
        await checkBatch(arena, items, settingsOf(c, items));
      });
    });
  }

  it("of 40 sequences, more than the rows that one piece of work takes", async () => {
    await runCase(device, "seed=72 items=40", async (arena, random) => {
      const items = makeBatch(random, kPlain, "f16");
      const many = Array.from({ length: 40 }, (_, i) => items[i % items.length]);
      await checkBatch(
        arena,
        many,
        many.map(() => ({ dtype: "f16", qDtype: "f16" })),
      );
    });
  });
});

describeOp("nothing to attend to is no failure", (_, device) => {
  it("no items", async () => {
    await runCase(device, "seed=73", async () => {
      ops.attendBatch.sync({ items: [] });
      await ops.attendBatch.async({ items: [] });
    });
  });

  it("items without queries and items without slots", async () => {
    await runCase(device, "seed=74", async (arena, random) => {
      const queries = [0, 0, 0, 2];
      const options = { ...kPlain, tree: "apart", dtype: "bf16", kvHeads: 2, queries } as const;
      const items = makeBatch(random, options, "f32");
      await checkBatch(
        arena,
        items,
        items.map(() => ({ dtype: "bf16", qDtype: "f32" })),
      );
    });
  });
});

describeOp("a run that one of two forks filled further is another run", (_, device) => {
  it("the other sees its own slots only", async () => {
    await runCase(device, "seed=75", async (arena, random) => {
      const [run] = makeHead(random, { headDim: 64, dtype: "f16", slots: 90 });
      const fewer = sliceRun(run, 0, 71, 64);
      const items = [run, fewer].map(
        (values, i): QueryValues => ({
          headDim: 64,
          group: 4,
          queries: 1,
          q: makeValues("normal", 4 * 64, "f16", random.fork(`q${i}`)),
          heads: [[values]],
          scale: 0.125,
          causal: true,
          queryPosition: 89,
          ropeQueryPosition: 0,
          reindex: false,
        }),
      );
      const setting = { dtype: "f16", qDtype: "f16" } as const;
      const [params] = placeBatch(arena, [items[0]], [setting]);
      const [other] = placeBatch(arena, [items[1]], [setting]);
      const placed = placeRun(arena, run, "f16", 64);
      const calls = [
        { ...params, heads: [[placed]] },
        { ...other, heads: [[{ ...placed, slots: 71 }]] },
      ];
      ops.attendBatch.sync({ items: calls });
      for (const [i, call] of calls.entries()) {
        compareAttend(items[i], setting, await readAttend(call));
      }
    });
  });
});

describeOp(
  "a key before RoPE whose position the table does not reach is refused",
  (_, device) => {
    it("the message names its item", async () => {
      await runCase(device, "seed=78", async (arena, random) => {
        const options = { ...kPlain, long: 9, rope: "two" } as const;
        const items = makeBatch(random, options, "f32");
        const params = placeBatch(
          arena,
          items,
          items.map(() => ({ dtype: "f16", qDtype: "f32" })),
        );
        const table = params[3].rope!.table.view({ shape: [20, 32, 2] });
        const rope = { ...params[3].rope!, table };
        const short = { ...params[3], ropeQueryPosition: 0, rope };
        await expectRefusal(
          ops.attendBatch,
          { items: [params[0], short] },
          { op: "attendBatch", param: "items[1].runs[1]" },
        );
      });
    });
  },
  ["cpu"],
);

/** Bits of out, lse and score sums of each item, before a call with them and after. */
async function outputsOf(items: readonly AttendParams[]): Promise<unknown[]> {
  const outputs = [];
  for (const params of items) {
    const { out, lse, scoreSum } = await readAttend(params);
    outputs.push({ out, lse, scoreSum });
  }
  return outputs;
}

const kOrdered: readonly Batch[] = (["1", "1,3", "5,45"] as const).map((queries) => ({
  dtype: "f16",
  qDtype: "f32",
  D: 64,
  G: 4,
  Hkv: 2,
  long: 150,
  codec: "mixed",
  queries,
  visible: "mask+beta",
  rope: "one",
  scores: "kv-head",
}));

describeOp("an item's result does not depend on where it stands", (_, device) => {
  for (const c of kOrdered) {
    it(`${c.queries} queries: the same bits in any order, and again`, async () => {
      const runIn = async (order: (items: AttendParams[]) => AttendParams[]) => {
        let outputs: unknown[] = [];
        await runCase(device, `seed=76 queries=${c.queries}`, async (arena, random) => {
          const items = makeBatch(random, optionsOf(c, "nested"), c.qDtype);
          const params = placeBatch(arena, items, settingsOf(c, items));
          ops.attendBatch.sync({ items: order(params) });
          outputs = await outputsOf(params);
        });
        return outputs;
      };
      const straight = await runIn((items) => items);
      expect(await runIn((items) => items)).toEqual(straight);
      expect(await runIn((items) => items.toReversed())).toEqual(straight);
      expect(await runIn((items) => [...items.slice(2), ...items.slice(0, 2)])).toEqual(straight);
    });
  }
});

describeOp("the number of threads does not matter", () => {
  it("one, two and five give the same bits", async () => {
    const outputs: unknown[][] = [];
    for (const threads of [1, 2, 5]) {
      const device = await openDevice("cpu", { threads });
      for (const c of kOrdered) {
        await runCase(device, `seed=77 queries=${c.queries}`, async (arena: Arena, random) => {
          const items = makeBatch(random, optionsOf({ ...c, long: 700 }, "nested"), c.qDtype);
          const params = placeBatch(arena, items, settingsOf(c, items));
          ops.attendBatch.sync({ items: params });
          outputs.push(await outputsOf(params));
        });
      }
      device.dispose();
    }
    const [first, ...others] = [0, 1, 2].map((i) => outputs.slice(3 * i, 3 * i + 3));
    for (const other of others) expect(other).toEqual(first);
  });
}, ["cpu"]);
