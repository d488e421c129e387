// Ops under cancellation, memory that runs out, and another number of threads.
import { expect, it } from "vitest";
import { openDevice, ops, SpindleKVError, Tensor } from "../harness/api.ts";
import { placeAttend, readAttend } from "../harness/attention.ts";
import { describeOp, runCase } from "../harness/backends.ts";
import { makeRows, placeProblem } from "../harness/codebook.ts";
import { checkError } from "../harness/expect-error.ts";
import { makeHead } from "../harness/heads.ts";
import { prngOf } from "../harness/cases.ts";
import { Arena, readNumbers } from "../harness/tensors.ts";
import { makeValues } from "../harness/values.ts";
import { buildCodebookAsync } from "../../lib/ops/index.ts";

const caught = async (promise: Promise<unknown>): Promise<unknown> =>
  promise.then(
    () => undefined,
    (error: unknown) => error,
  );

describeOp("a signal that is aborted before stops the job", (_, device) => {
  it("nothing is written", async () => {
    await runCase(device, "seed=301", async (arena, random) => {
      const values = {
        x: makeRows("clusters", 40, 64, "f16", random),
        n: 40,
        headDim: 64,
        theta: 0.9,
      };
      const problem = placeProblem(arena, { ...values, dtype: "f16" });
      const before = await readNumbers(problem.labels);
      const error = await caught(
        buildCodebookAsync(
          { problems: [problem], stages: ["graph", "cover", "emit"] },
          {
            signal: AbortSignal.abort(),
          },
        ),
      );
      checkError(error, { code: "ERR_SPINDLEKV_ABORTED" });
      expect(await readNumbers(problem.labels)).toEqual(before);
    });
  });
});

describeOp(
  "a signal that is aborted later stops the job",
  (_, device) => {
    it("while a codebook is built; the device still works", async () => {
      await runCase(device, "seed=302", async (_, random) => {
        const n = 20_000;
        const zeros = (dtype: "i32" | "u64", ...shape: number[]) =>
          Tensor.zeros(device, dtype, shape);
        using x = Tensor.from(
          device,
          "f32",
          [n, 128],
          makeValues("normal", n * 128, "f32", random),
        );
        using labels = zeros("i32", n);
        using leaders = zeros("i32", n);
        using count = zeros("i32", 1);
        const controller = new AbortController();
        const job = caught(
          buildCodebookAsync(
            { problems: [{ x, theta: 0.9, labels, leaders, count }], stages: ["cover"] },
            { signal: controller.signal },
          ),
        );
        setTimeout(() => controller.abort(), 30);
        checkError(await job, { code: "ERR_SPINDLEKV_ABORTED" });
        const few = Tensor.from(device, "i32", [3], [1, 2, 3]);
        expect(Array.from(await readNumbers(few))).toEqual([1, 2, 3]);
        few.dispose();
      });
    });
  },
  ["cpu", "cuda"],
);

describeOp("memory that runs out is an error and nothing else", (backend) => {
  it("a workspace that cannot be had; the same call passes afterwards", async ({ task }) => {
    const device = await openDevice(backend, { threads: 2 });
    const arena = new Arena(device, prngOf("seed=303"));
    const n = 60;
    const x = makeRows("clusters", n, 64, "f16", arena.random);
    const problem = placeProblem(arena, { x, n, headDim: 64, dtype: "f16", theta: 0.9 });
    const params = { problems: [problem], stages: ["graph", "cover", "emit"] as const, refine: 1 };
    device.failAllocation(1);
    let error: unknown;
    try {
      ops.buildCodebook.sync(params);
    } catch (thrown) {
      error = thrown;
    }
    device.failAllocation(0);
    expect(error).toBeInstanceOf(SpindleKVError);
    checkError(error, { code: "ERR_SPINDLEKV_OUT_OF_MEMORY" });
    ops.buildCodebook.sync(params);
    expect(Array.from(await readNumbers(problem.count))[0]).toBeGreaterThan(0);
    await arena.check();
    arena.dispose();
    device.dispose();
    task.meta.cases = 1;
  });
  it("a tensor that cannot be had", async ({ task }) => {
    const device = await openDevice(backend, { threads: 1 });
    device.failAllocation(1);
    expect(() => Tensor.zeros(device, "f32", [4])).toThrow(SpindleKVError);
    const second = Tensor.zeros(device, "f32", [4]);
    expect(second.shape).toEqual([4]);
    second.dispose();
    expect(device.allocations().count).toBe(0);
    device.dispose();
    task.meta.cases = 1;
  });
});

describeOp("the number of threads changes no bit of attention", () => {
  it("one, two and five threads", async ({ task }) => {
    const results = [];
    for (const threads of [1, 2, 5]) {
      const device = await openDevice("cpu", { threads });
      const arena = new Arena(device, prngOf("seed=304"));
      const { random } = arena;
      const heads = [700, 90].map((slots) =>
        makeHead(random, { headDim: 64, dtype: "f16", slots, codec: "mixed", runs: 3 }),
      );
      const params = placeAttend(
        arena,
        {
          headDim: 64,
          group: 4,
          queries: 3,
          q: makeValues("normal", 8 * 3 * 64, "f16", random),
          heads,
          scale: 0.125,
          causal: true,
          queryPosition: 690,
          ropeQueryPosition: 690,
          reindex: false,
        },
        { dtype: "f16", qDtype: "f16", scoreMode: "kv-head" },
      );
      ops.attend.sync(params);
      const { out, lse, scoreSum } = await readAttend(params);
      results.push({ out, lse, scoreSum });
      arena.dispose();
      device.dispose();
    }
    expect(results[1]).toEqual(results[0]);
    expect(results[2]).toEqual(results[0]);
    task.meta.cases = 3;
  });
}, ["cpu"]);
