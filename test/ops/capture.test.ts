// device.capture: a replay does what the calls in the body would do now, and nothing happens before.
import { expect, it } from "vitest";
import { KVCache } from "../../lib/cache/kv-cache.ts";
import { type Device, openDevice, ops, Tensor } from "../harness/api.ts";
import { describeOp } from "../harness/backends.ts";
import { checkError } from "../harness/expect-error.ts";
import { prngOf } from "../harness/cases.ts";

const ROWS = 4;
const LENGTH = 300;

function makeChain(device: Device) {
  const scores = Tensor.zeros(device, "f32", [ROWS, LENGTH]);
  const pooled = Tensor.zeros(device, "f32", [ROWS, LENGTH]);
  const grouped = Tensor.zeros(device, "f32", [ROWS / 2, LENGTH]);
  const indices = Tensor.zeros(device, "i32", [ROWS / 2, LENGTH]);
  const counts = Tensor.zeros(device, "i32", [ROWS / 2]);
  const lengths = [LENGTH, LENGTH];
  const run = () => {
    ops.poolScores.sync({ in: scores, out: pooled, lengths: LENGTH, kernel: 5, kind: "mean" });
    ops.reduceGroup.sync({ in: pooled, out: grouped, group: 2, kind: "mean" });
    ops.selectTopk.sync({ scores: grouped, lengths, k: 40, indices, counts });
  };
  const tensors = [scores, pooled, grouped, indices, counts];
  const dispose = () => {
    for (const tensor of tensors) tensor.dispose();
  };
  return { scores, grouped, indices, counts, lengths, run, dispose };
}

const draw = (seed: string) => {
  const random = prngOf(seed);
  return Float32Array.from({ length: ROWS * LENGTH }, () => random.normal());
};

async function resultOf(chain: ReturnType<typeof makeChain>) {
  return { grouped: await chain.grouped.read(), indices: await chain.indices.read() };
}

function refusalOf(body: () => unknown): unknown {
  try {
    body();
  } catch (error) {
    return error;
  }
  return undefined;
}

// The device runs ops at once again.
async function expectIntact(device: Device): Promise<void> {
  using input = Tensor.from(device, "f32", [2, 3], [1, 2, 3, 10, 20, 30]);
  using out = Tensor.zeros(device, "f32", [1, 3]);
  ops.reduceGroup.sync({ in: input, out, group: 2, kind: "sum" });
  expect(await out.read()).toEqual(Float32Array.of(11, 22, 33));
}

const unsupported = { code: "ERR_SPINDLEKV_UNSUPPORTED" };

describeOp("device.capture", (_, device) => {
  it("runs nothing before a replay, and then what the ops give on the present contents", async () => {
    const captured = makeChain(device);
    const direct = makeChain(device);
    using step = device.capture(captured.run);
    captured.scores.write(draw("first"));
    expect(await captured.counts.read()).toEqual(Int32Array.of(0, 0));
    for (const [at, seed] of ["first", "second", "third"].entries()) {
      captured.scores.write(draw(seed));
      direct.scores.write(draw(seed));
      direct.run();
      if (at === 1) await Promise.all([step.replayAsync(), step.replayAsync()]);
      else step.replay();
      expect(await resultOf(captured)).toEqual(await resultOf(direct));
      expect(await captured.counts.read()).toEqual(Int32Array.of(40, 40));
    }
    captured.dispose();
    direct.dispose();
  });

  it("keeps host lists of the capture, and memory of tensors that were disposed", async () => {
    const before = device.allocations().count;
    const chain = makeChain(device);
    chain.scores.write(draw("kept"));
    chain.run();
    const expected = await resultOf(chain);
    chain.indices.write(new Int32Array((ROWS / 2) * LENGTH));
    const step = device.capture(chain.run);
    chain.lengths.fill(7);
    chain.scores.dispose();
    // Other work, whose tables and workspace take the place of those that the capture saw.
    const other = makeChain(device);
    for (let i = 0; i < 10; i++) other.run();
    step.replay();
    expect(await resultOf(chain)).toEqual(expected);
    const replaying = step.replayAsync();
    step.dispose();
    await replaying;
    expect(step.disposed).toBe(true);
    checkError(
      refusalOf(() => step.replay()),
      { code: "ERR_SPINDLEKV_DISPOSED" },
    );
    chain.dispose();
    other.dispose();
    // What may be left are workspaces of the device itself.
    expect(device.allocations().count).toBeLessThanOrEqual(before + 2);
  });

  it("is no step while it is replayed elsewhere", async () => {
    const chain = makeChain(device);
    using step = device.capture(chain.run);
    const replaying = step.replayAsync();
    checkError(
      refusalOf(() => step.replay()),
      { code: "ERR_SPINDLEKV_BUSY", op: "replay" },
    );
    await replaying;
    step.replay();
    chain.dispose();
  });

  it("takes an empty body and an abort", async () => {
    using step = device.capture(() => undefined);
    step.replay();
    await step.replayAsync();
    await expect(step.replayAsync({ signal: AbortSignal.abort() })).rejects.toMatchObject({
      code: "ERR_SPINDLEKV_ABORTED",
    });
  });

  it("refuses what cannot be replayed, also when the body goes on", async () => {
    const chain = makeChain(device);
    using cache = new KVCache(device, {
      layers: 1,
      queryHeads: 1,
      kvHeads: 1,
      headDim: 8,
      dtype: "f32",
    });
    using row = Tensor.zeros(device, "f32", [1, 1, 8]);
    using rows = Tensor.zeros(device, "f32", [1, 1, 1, 8]);
    using earlier = device.capture(chain.run);
    const calls: Record<string, () => unknown> = {
      "a new tensor": () => Tensor.zeros(device, "f32", [1]),
      write: () => chain.scores.write(draw("refused")),
      readSync: () => chain.counts.readSync(),
      read: () => chain.counts.read().catch(() => undefined),
      synchronize: () => device.synchronize().catch(() => undefined),
      "a promise": () =>
        ops.reduceGroup
          .async({ in: chain.scores, out: chain.grouped, group: 2, kind: "sum" })
          .catch(() => undefined),
      "a cache": () => cache.layers[0].append(row, row),
      "a step": () => cache.step({ k: rows, v: rows, q: rows, out: rows }),
      "a capture": () => device.capture(chain.run),
      "a replay": () => earlier.replay(),
    };
    for (const [name, call] of Object.entries(calls)) {
      const thrown = refusalOf(() => device.capture(() => void call()));
      expect(thrown, name).toBeDefined();
      checkError(thrown, unsupported);
      const late = refusalOf(() =>
        device.capture(() => {
          refusalOf(call);
          chain.run();
        }),
      );
      expect(late, name).toBeDefined();
      checkError(late, unsupported);
      await expectIntact(device);
    }
    expect(cache.layers[0].slots).toEqual([0]);
    expect(await chain.counts.read()).toEqual(Int32Array.of(0, 0));
    chain.dispose();
  });

  it("leaves nothing of a body that fails", async () => {
    const chain = makeChain(device);
    const failure = new Error("of the body");
    const failing = () => {
      chain.run();
      throw failure;
    };
    expect(refusalOf(() => device.capture(failing))).toBe(failure);
    checkError(
      refusalOf(() => device.capture(async () => chain.run())),
      { param: "body" },
    );
    checkError(
      refusalOf(() => device.capture(1 as never)),
      { param: "body" },
    );
    await expectIntact(device);
    expect(await chain.counts.read()).toEqual(Int32Array.of(0, 0));
    chain.dispose();
  });

  it("leaves nothing where there is no room for its workspace", async () => {
    const chain = makeChain(device);
    const refused = refusalOf(() =>
      device.capture(() => {
        chain.run();
        device.failAllocation(1);
      }),
    );
    device.failAllocation(0);
    // The CPU needs a workspace for the selection as well.
    checkError(refused, { code: "ERR_SPINDLEKV_OUT_OF_MEMORY" });
    await expectIntact(device);
    chain.dispose();
  });
});

it("cpu: a disposed device replays nothing and frees what was captured", async () => {
  const device = await openDevice("cpu");
  const chain = makeChain(device);
  const step = device.capture(chain.run);
  device.dispose();
  checkError(
    refusalOf(() => step.replay()),
    { code: "ERR_SPINDLEKV_DISPOSED" },
  );
  chain.dispose();
  step.dispose();
  expect(device.allocations().count).toBe(0);
});
