// attend reads plain calls as numbers and all others as objects: both give the same bits.
import { expect, it } from "vitest";
import { attendByNumbers } from "../../lib/ops/attend-by-numbers.ts";
import { native } from "../../lib/native.ts";
import type { AttendParams, Run } from "../../lib/ops/index.ts";
import { makeRopeTable } from "../../lib/rope.ts";
import { Tensor } from "../../lib/tensor.ts";
import { describeOp } from "../harness/backends.ts";
import { Prng } from "../harness/prng.ts";

const kHeadDim = 16;
const kCapacity = 7;

describeOp("attend by numbers", (_backend, device) => {
  const random = new Prng(12);
  const tensors: Tensor[] = [];
  const normal = (dtype: "f32" | "f16", shape: number[]) => {
    const size = shape.reduce((a, b) => a * b, 1);
    const data = Float32Array.from({ length: size }, () => random.normal());
    tensors.push(Tensor.from(device, dtype, shape, data));
    return tensors.at(-1)!;
  };
  const keep = (tensor: Tensor) => {
    tensors.push(tensor);
    return tensor;
  };
  const run = (first: number, more: Partial<Run> = {}): Run => ({
    codec: "raw",
    k: normal("f16", [kCapacity, kHeadDim]),
    v: normal("f16", [kCapacity, kHeadDim]),
    positions: keep(
      Tensor.from(
        device,
        "i32",
        [kCapacity],
        Int32Array.from({ length: kCapacity }, (_, i) => first + i),
      ),
    ),
    ...more,
  });
  const call = (more: Partial<AttendParams> = {}): AttendParams => ({
    q: normal("f32", [4, 2, kHeadDim]),
    out: keep(Tensor.zeros(device, "f32", [4, 2, kHeadDim])),
    heads: [[run(0), run(kCapacity, { slots: 3 })], [run(2)]],
    queryPosition: 12,
    ...more,
  });
  const zeros = (shape: number[]) => keep(Tensor.zeros(device, "f32", shape));
  const mask = () =>
    keep(Tensor.from(device, "u16", [kCapacity], Uint16Array.of(1, 2, 3, 3, 3, 1, 2)));
  const table = () => keep(makeRopeTable(device, { theta: 10_000, nRot: kHeadDim, positions: 32 }));

  const plain: Record<string, () => AttendParams> = {
    "two runs and one": () => call(),
    "no runs at all": () => call({ heads: [[], []] }),
    "masks and betas": () =>
      call({ heads: [[run(0, { mask: mask() })], [run(0, { beta: normal("f32", [kCapacity]) })]] }),
    "a scale, not causal": () => call({ scale: 0.5, causal: false, queryPosition: 0 }),
    "rope, some keys turned": () =>
      call({
        heads: [[run(0, { rotated: true }), run(7)], [run(0)]],
        rope: { table: table(), style: "neox" },
        ropeQueryPosition: 20,
      }),
    "re-indexed": () => call({ reindex: true, rope: { table: table(), style: "norm" } }),
    "a strided q": () =>
      call({
        q: normal("f32", [2, 4, kHeadDim]).view({
          shape: [4, 2, kHeadDim],
          strides: [kHeadDim, 4 * kHeadDim, 1],
        }),
      }),
    "a log-sum-exp": () => call({ lse: zeros([4, 2]) }),
    "sums per query head": () => call({ scoreSum: zeros([4, 10]), scoreMode: "query-head" }),
    "sums per KV head, longer than the slots": () =>
      call({ lse: zeros([4, 2]), scoreSum: zeros([2, 13]), scoreMode: "kv-head" }),
    "sums for no slots": () =>
      call({ heads: [[], []], scoreSum: zeros([2, 0]), scoreMode: "kv-head" }),
    "no queries": () =>
      call({
        q: normal("f32", [4, 0, kHeadDim]),
        out: keep(Tensor.zeros(device, "f32", [4, 0, kHeadDim])),
      }),
  };

  const outputs = ["out", "lse", "scoreSum"] as const;

  it("gives the bits of the long way", async () => {
    for (const [name, make] of Object.entries(plain)) {
      const params = make();
      const written = outputs.flatMap((output) => params[output] ?? []);
      const bitsAfter = async (run: () => void) => {
        for (const tensor of written) tensor.write(new Float32Array(tensor.sizeBytes / 4).fill(7));
        run();
        return Promise.all(written.map((tensor) => tensor.readBits()));
      };
      const short = await bitsAfter(() => expect(attendByNumbers(params), name).toBe(true));
      expect(await bitsAfter(() => native().attend(params)), name).toEqual(short);
    }
    for (const tensor of tensors.splice(0)) tensor.dispose();
  });

  it("leaves what is not plain to it", () => {
    using gone = Tensor.zeros(device, "f32", [4, 2, kHeadDim]);
    gone.dispose();
    const other: Record<string, unknown> = {
      "no params": undefined,
      "a q that is none": call({ q: 3 as never }),
      "a disposed q": call({ q: gone }),
      "heads that are no lists": call({ heads: [run(0)] as never }),
      "a codebook": call({ heads: [[run(0, { codec: "codebook" })], []] }),
      "a run that is none": call({ heads: [[null as never], []] }),
      "too many slots": call({ heads: [[run(0, { slots: kCapacity + 1 })], []] }),
      "half a slot": call({ heads: [[run(0, { slots: 0.5 })], []] }),
      "slots by text": call({ heads: [[run(0, { slots: "3" as never })], []] }),
      "a mask that is none": call({ heads: [[run(0, { mask: 1 as never })], []] }),
      "causal 1": call({ causal: 1 as never }),
      "no position": call({ queryPosition: undefined as never }),
      "a scale that is not finite": call({ scale: Number.NaN }),
      "an unknown style": call({ rope: { table: table(), style: "x" as never } }),
      "rope null": call({ rope: null as never }),
      "an lse that is none": call({ lse: 3 as never }),
      "an lse of one query": call({ lse: zeros([4, 1]) }),
      "an lse with gaps": call({ lse: zeros([4, 4]).view({ shape: [4, 2], strides: [4, 1] }) }),
      "a mode without sums": call({ scoreMode: "kv-head" }),
      "sums without a mode": call({ scoreSum: zeros([4, 10]) }),
      "sums that are none": call({ scoreSum: null as never, scoreMode: "kv-head" }),
      "an unknown mode": call({ scoreSum: zeros([4, 10]), scoreMode: "head" as never }),
      "sums of other heads": call({ scoreSum: zeros([2, 10]), scoreMode: "query-head" }),
      "sums too short": call({ scoreSum: zeros([2, 9]), scoreMode: "kv-head" }),
      "sums by columns": call({
        scoreSum: zeros([10, 2]).view({ shape: [2, 10], strides: [1, 2] }),
        scoreMode: "kv-head",
      }),
      "a head too many": call({ heads: [[], [], []] }),
      "out that is q": ((params) => ({ ...params, out: params.q }))(call()),
    };
    for (const [name, params] of Object.entries(other)) {
      expect(attendByNumbers(params as AttendParams), name).toBe(false);
    }
    for (const tensor of tensors.splice(0)) tensor.dispose();
  });
});
