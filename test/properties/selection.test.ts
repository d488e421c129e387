// Properties of selection that need no oracle: subset, order, exact counts, permutation, monotone budgets.
import { expect, it } from "vitest";
import { describeOp, runCases } from "../harness/backends.ts";
import { type Case, matrix } from "../harness/cases.ts";
import type { Prng } from "../harness/prng.ts";
import { runSelection } from "../harness/selection.ts";
import { makeValues } from "../harness/values.ts";

interface Selecting {
  readonly T: number;
  readonly rows: number;
  readonly sinks: number;
  readonly recent: number;
  readonly values: "normal" | "ties" | "equal";
}

const selecting = matrix<Selecting>(
  {
    T: [1, 2, 33, 64, 97, 300],
    rows: [1, 4],
    sinks: [0, 3],
    recent: [0, 7],
    values: ["normal", "ties", "equal"],
  },
  { seed: 201 },
);

const makeRows = (c: Case<Selecting>, random: Prng) =>
  Array.from({ length: c.rows }, () => makeValues(c.values, c.T, "f32", random));

// Scores without any tie, so that an order is all there is.
const distinctRow = (length: number, random: Prng) =>
  Float32Array.from(random.permutation(length), (rank) => rank / 16 - 3);

const isProtected = (c: Selecting, i: number) => i < c.sinks || i >= c.T - c.recent;
const unprotected = (c: Selecting) => Math.max(0, c.T - c.sinks - c.recent);

describeOp("what is kept is a sorted, unique subset of exactly the budget", (backend, device) => {
  it("protected slots included, and every kept score is at least every dropped one", async () => {
    await runCases(device, selecting.casesFor(backend), async (c, arena, random) => {
      const rows = makeRows(c, random);
      const k = rows.map(() => random.integer(0, c.T + 2));
      const kept = await runSelection(arena, { rows, k, sinks: c.sinks, recent: c.recent });
      kept.forEach(({ indices }, r) => {
        expect(indices.every((i) => Number.isInteger(i) && i >= 0 && i < c.T)).toBe(true);
        expect(indices.every((index, i) => i === 0 || index > indices[i - 1])).toBe(true);
        expect(indices.length).toBe(c.T - unprotected(c) + Math.min(k[r], unprotected(c)));
        const chosen = new Set(indices);
        const free = Array.from(rows[r].keys()).filter((i) => !isProtected(c, i));
        const least = Math.min(...free.filter((i) => chosen.has(i)).map((i) => rows[r][i]));
        const most = Math.max(...free.filter((i) => !chosen.has(i)).map((i) => rows[r][i]));
        expect(least).toBeGreaterThanOrEqual(most);
        for (let i = 0; i < c.T; i++) if (isProtected(c, i)) expect(chosen.has(i)).toBe(true);
      });
    });
  });
});

describeOp("permuting the tokens permutes the selection", (backend, device) => {
  it("where no two scores are equal", async () => {
    const cases = selecting.casesFor(backend).filter((c) => c.values === "normal");
    await runCases(device, cases, async (c, arena, random) => {
      const row = distinctRow(c.T, random);
      const order = random.permutation(c.T);
      const k = [Math.floor(c.T / 3)];
      const [plain] = await runSelection(arena, { rows: [row], k });
      const [permuted] = await runSelection(arena, { rows: [row.map((_, i) => row[order[i]])], k });
      expect(permuted.indices.map((i) => order[i]).sort((a, b) => a - b)).toEqual(plain.indices);
    });
  });
});

describeOp("a larger k keeps a superset", (backend, device) => {
  it("per row and across heads, ties or not", async () => {
    await runCases(device, selecting.casesFor(backend), async (c, arena, random) => {
      const rows = makeRows(c, random);
      const budgets = [0, Math.floor(c.T / 4), Math.floor(c.T / 2), c.T];
      let before: Set<number>[] = rows.map(() => new Set());
      for (const budget of budgets) {
        const kept = await runSelection(arena, { rows, k: rows.map(() => budget), sinks: c.sinks });
        const now = kept.map(({ indices }) => new Set(indices));
        before.forEach((set, r) => {
          for (const i of set) expect(now[r].has(i)).toBe(true);
        });
        before = now;
      }
      before = rows.map(() => new Set());
      for (const budget of budgets.map((b) => b * c.rows)) {
        const kept = await runSelection(arena, { rows, k: [budget], poolRows: c.rows });
        const now = kept.map(({ indices }) => new Set(indices));
        before.forEach((set, r) => {
          for (const i of set) expect(now[r].has(i)).toBe(true);
        });
        before = now;
      }
    });
  });
});

describeOp("an across-head total is met exactly", (backend, device) => {
  it("over floors, ties and totals", async () => {
    await runCases(device, selecting.casesFor(backend), async (c, arena, random) => {
      const rows = makeRows(c, random);
      const floor = c.rows > 1 ? random.integer(0, c.T) : 0;
      const total = random.integer(0, c.T * c.rows);
      const kept = await runSelection(arena, { rows, k: [total], poolRows: c.rows, floor });
      const count = kept.reduce((sum, { indices }) => sum + indices.length, 0);
      expect(count).toBe(Math.max(total, floor * c.rows));
      for (const { indices } of kept)
        expect(indices.length).toBeGreaterThanOrEqual(Math.min(floor, c.T));
    });
  });
});
