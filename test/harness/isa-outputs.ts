// Run by a child process under a forced SPINDLEKV_CPU_ISA: prints one line per canonical output of the CPU backend,
// its name and a hash of its bits. The parent compares the lines of all instruction sets.
import { createHash } from "node:crypto";
import { openDevice, ops, type Tensor } from "./api.ts";
import { prngOf } from "./cases.ts";
import { makeRows, placeProblem } from "./codebook.ts";
import { makeHead, makeRope, placeHeads, placeRope } from "./heads.ts";
import { Arena } from "./tensors.ts";
import { makeValues } from "./values.ts";

async function hashOf(tensor: Tensor): Promise<string> {
  const data = await tensor.read();
  return createHash("sha256")
    .update(new Uint8Array(data.buffer, data.byteOffset, data.byteLength))
    .digest("hex");
}

/** Lines "name hash" of every canonical output over a fixed list of cases. */
export async function canonicalOutputs(): Promise<string[]> {
  const device = await openDevice("cpu");
  const lines: string[] = [];
  for (const dtype of ["f32", "f16", "bf16"] as const) {
    for (const headDim of [8, 40, 64, 80, 128, 256]) {
      const id = `${dtype} D=${headDim}`;
      const random = prngOf(id);
      const arena = new Arena(device, random);
      const note = async (name: string, tensor: Tensor) => {
        lines.push(`${id} ${name} ${await hashOf(tensor)}`);
      };

      const rope = placeRope(arena, makeRope({ positions: 256, nRot: headDim / 2, style: "neox" }));
      for (const codec of ["raw", "codebook"] as const) {
        const heads = [131, 17].map((slots) =>
          makeHead(random, { headDim, dtype, slots, codec, hasBeta: true }),
        );
        const outputs = {
          sum: arena.output("f32", [6, 131], { data: new Float32Array(6 * 131) }),
          sumSq: arena.output("f32", [6, 131], { data: new Float32Array(6 * 131) }),
          max: arena.output("f32", [6, 131], { data: new Float32Array(6 * 131) }),
        };
        ops.windowScores.sync({
          q: arena.input(
            dtype,
            [6, 9, headDim],
            makeValues("normal", 6 * 9 * headDim, dtype, random),
          ),
          heads: placeHeads(arena, heads, dtype, headDim),
          queryPosition: 130,
          rope,
          ...outputs,
        });
        for (const [name, tensor] of Object.entries(outputs))
          await note(`windowScores ${codec} ${name}`, tensor);
        const rows = () => arena.output("f32", [2, 131], { data: new Float32Array(2 * 131) });
        const stats = { kNorm: rows(), cosToMean: rows(), vNorm: rows(), vL1: rows() };
        ops.keyStats.sync({ heads: placeHeads(arena, heads, dtype, headDim), rope, ...stats });
        for (const [name, tensor] of Object.entries(stats))
          await note(`keyStats ${codec} ${name}`, tensor);
      }

      const n = 93;
      const x = makeRows("clusters", n, headDim, dtype, random);
      const problem = placeProblem(arena, { x, n, headDim, dtype, theta: 0.9 });
      ops.buildCodebook.sync({
        problems: [problem],
        stages: ["graph", "cover", "emit"],
        refine: 2,
      });
      const count = ((await problem.count.read()) as Int32Array)[0];
      for (const name of ["graph", "labels", "count", "magnitudes", "cosines"] as const) {
        await note(`buildCodebook ${name}`, problem[name]);
      }
      await note("buildCodebook codewords", problem.codewords.view({ shape: [count, headDim] }));

      const rows = arena.input(dtype, [n, headDim], x);
      const index = arena.output("i32", [n]);
      const score = arena.output("f32", [n]);
      const norm = arena.output("f32", [n]);
      const codewords = problem.codewords.view({ shape: [count, headDim] });
      ops.nearestCodeword.sync({ problems: [{ x: rows, codewords, index, score, norm }] });
      const sums = arena.output("f32", [count, headDim]);
      ops.reduceByLabel.sync({
        problems: [{ x: rows, labels: problem.labels, weights: norm, nLabels: count, sums }],
      });
      const turned = arena.output(dtype, [1, n, headDim]);
      const positions = arena.input(
        "i32",
        [n],
        Int32Array.from({ length: n }, (_, i) => 2 * i),
      );
      ops.rope.sync({
        in: rows.view({ shape: [1, n, headDim] }),
        out: turned,
        positionsTo: positions,
        rope,
      });
      for (const [name, tensor] of Object.entries({ index, score, norm, sums, turned }))
        await note(name, tensor);

      const wide = makeValues("normal", 2 * 70 * 333, dtype, random);
      const cosines = arena.output("f32", [70]);
      const total = arena.output("f32", [1], { data: [3] });
      ops.rowCosine.sync({
        a: arena.input(dtype, [70, 333], wide.subarray(0, 70 * 333)),
        b: arena.input(dtype, [70, 333], wide.subarray(70 * 333)),
        cosines,
        sum: total,
      });
      await note("rowCosine cosines", cosines);
      await note("rowCosine sum", total);

      const scores = arena.input("f32", [4, 333], makeValues("ties", 4 * 333, "f32", random));
      const pooled = arena.output("f32", [4, 333]);
      ops.poolScores.sync({
        in: scores,
        out: pooled,
        lengths: [333, 333, 333, 333],
        kernel: 7,
        kind: "mean",
      });
      const reduced = arena.output("f32", [2, 333]);
      ops.reduceGroup.sync({ in: pooled, out: reduced, group: 2, kind: "mean" });
      const indices = arena.output("i32", [2, 50]);
      const counts = arena.output("i32", [2]);
      ops.selectTopk.sync({ scores: reduced, lengths: [333, 333], k: [50, 50], indices, counts });
      for (const [name, tensor] of Object.entries({ pooled, reduced, indices }))
        await note(name, tensor);
      await arena.check();
      arena.dispose();
    }
  }
  lines.push(`path ${device.info().detail}`);
  device.dispose();
  return lines;
}

/**
 * Outputs of attend that paths give within a tolerance, not bit for bit: f32, over f16, bf16 and f32 slots, raw and as
 * codebooks, keys turned and unturned, with few rows and with many.
 */
export async function attendOutputs(): Promise<{ name: string; values: number[] }[]> {
  const device = await openDevice("cpu");
  const outputs: { name: string; values: number[] }[] = [];
  const [kvHeads, group, slots] = [2, 4, 331];
  for (const dtype of ["f32", "f16", "bf16"] as const) {
    for (const headDim of [40, 64, 128]) {
      for (const codec of ["raw", "codebook"] as const) {
        for (const queries of [1, 40]) {
          const name = `attend ${dtype} D=${headDim} ${codec} queries=${queries}`;
          const random = prngOf(name);
          const arena = new Arena(device, random);
          const heads = Array.from({ length: kvHeads }, () =>
            makeHead(random, { headDim, dtype, slots, codec, runs: 2, hasMask: true, group }),
          );
          const shape = [kvHeads * group, queries, headDim] as const;
          const q = makeValues("normal", shape[0] * queries * headDim, "f32", random);
          const table = makeRope({ positions: 2 * slots, nRot: headDim, style: "norm" });
          const out = arena.output("f32", shape);
          const lse = arena.output("f32", [shape[0], queries]);
          const scoreSum = arena.output("f32", [kvHeads, slots], {
            data: new Float32Array(kvHeads * slots),
          });
          ops.attend.sync({
            q: arena.input("f32", shape, q),
            out,
            lse,
            heads: placeHeads(arena, heads, dtype, headDim),
            queryPosition: slots - queries,
            rope: placeRope(arena, table),
            scoreSum,
            scoreMode: "kv-head",
          });
          for (const [part, tensor] of Object.entries({ out, lse, scoreSum })) {
            const values = Array.from((await tensor.read()) as Float32Array);
            outputs.push({ name: `${name} ${part}`, values });
          }
          await arena.check();
          arena.dispose();
        }
      }
    }
  }
  device.dispose();
  return outputs;
}
