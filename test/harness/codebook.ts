// Data for build_codebook and the running of it: rows drawn around directions so that clusters are clear, or the
// awkward kinds (all equal, orthogonal, zeros, duplicates), and one call of any stages read back.
import type { CodebookCase, CodebookResult } from "../oracle/build-codebook.ts";
import { roundTo } from "../oracle/float-formats.ts";
import { type BuildCodebookParams, ops, type Tensor } from "./api.ts";
import { invoke } from "./backends.ts";
import { compareExact } from "./compare.ts";
import type { Layout } from "./layouts.ts";
import { buildCodebookTwin } from "./oracles.ts";
import type { Prng } from "./prng.ts";
import { type Arena, readNumbers } from "./tensors.ts";
import { makeValues } from "./values.ts";

export const ROW_KINDS = [
  "clusters",
  "normal",
  "equal",
  "orthogonal",
  "zeros",
  "duplicates",
  "some-zeros",
  "subnormal",
  "outlier",
  "ties",
] as const;
export type RowKind = (typeof ROW_KINDS)[number];

/** n rows of the kind, exact in dtype. */
export function makeRows(
  kind: RowKind,
  n: number,
  headDim: number,
  dtype: CodebookCase["dtype"],
  random: Prng,
): Float32Array {
  const size = n * headDim;
  const rounded = (x: number) => roundTo(dtype, x);
  switch (kind) {
    case "zeros":
      return new Float32Array(size);
    case "equal": {
      const row = makeValues("normal", headDim, dtype, random);
      return Float32Array.from({ length: size }, (_, i) => row[i % headDim]);
    }
    case "orthogonal": {
      const rows = new Float32Array(size);
      for (let i = 0; i < n; i++) rows[i * headDim + (i % headDim)] = rounded(random.normal() + 3);
      return rows;
    }
    case "subnormal":
    case "outlier":
    case "ties":
    case "normal":
      return makeValues(kind, size, dtype, random);
    default: {
      // A few directions, lengths of their own and a little noise.
      const centres = Math.ceil(n / 6) + 1;
      const directions = makeValues("normal", centres * headDim, dtype, random);
      const rows = new Float32Array(size);
      for (let i = 0; i < n; i++) {
        const centre = random.integer(0, centres - 1);
        const length = 0.5 + 2 * random.uniform();
        const noise = random.pick([0.05, 0.15, 0.3]);
        for (let d = 0; d < headDim; d++) {
          const x = directions[centre * headDim + d] + noise * random.normal();
          rows[i * headDim + d] = rounded(length * x);
        }
        if (kind === "duplicates" && i > 0 && random.uniform() < 0.5) {
          const other = random.integer(0, i - 1);
          rows.copyWithin(i * headDim, other * headDim, (other + 1) * headDim);
        }
        if (kind === "some-zeros" && random.uniform() < 0.2) {
          rows.fill(0, i * headDim, (i + 1) * headDim);
        }
      }
      return rows;
    }
  }
}

export interface CodebookSetting {
  readonly layout?: Layout;
  readonly refBytes?: 2 | 4;
  /** Room for codewords; the number of rows when absent. */
  readonly capacity?: number;
}

export type Problem = BuildCodebookParams["problems"][number];

/** One problem with every output; canaries behind the count stay visible to the arena. */
export function placeProblem(
  arena: Arena,
  values: CodebookCase,
  setting: CodebookSetting = {},
): Required<Omit<Problem, "rows">> & { rows?: Tensor } {
  const { n, headDim, dtype, theta } = values;
  const { layout = "contiguous", refBytes = 2 } = setting;
  const nRows = values.rows?.length ?? n;
  const capacity = setting.capacity ?? nRows;
  const words = Math.ceil(n / 64);
  return {
    x: arena.input(dtype, [n, headDim], values.x, { layout, name: "x" }),
    ...(values.rows && { rows: arena.input("i32", [nRows], values.rows, { name: "rows" }) }),
    theta,
    graph: arena.output("u64", [n, words], { name: "graph" }),
    labels: arena.output("i32", [nRows], { name: "labels" }),
    leaders: arena.output("i32", [capacity], { name: "leaders" }),
    count: arena.output("i32", [1], { name: "count" }),
    codewords: arena.output(dtype, [capacity, headDim], { name: "codewords" }),
    refs: arena.output(refBytes === 2 ? "u16" : "i32", [nRows], { name: "refs" }),
    magnitudes: arena.output(dtype, [nRows], { name: "magnitudes" }),
    cosines: arena.output("f32", [nRows], { name: "cosines" }),
  };
}

export interface CodebookOutputs {
  readonly graph: bigint[];
  readonly labels: number[];
  readonly leaders: number[];
  readonly count: number;
  readonly codewords: number[];
  readonly refs: number[];
  readonly magnitudes: number[];
  readonly cosines: number[];
}

export async function readProblem(
  problem: ReturnType<typeof placeProblem>,
  headDim: number,
): Promise<CodebookOutputs> {
  const list = async (tensor: Tensor) => Array.from(await readNumbers(tensor));
  const count = (await list(problem.count))[0];
  return {
    graph: Array.from((await problem.graph.read()) as BigUint64Array),
    labels: await list(problem.labels),
    leaders: await list(problem.leaders),
    count,
    codewords: (await list(problem.codewords)).slice(0, count * headDim),
    refs: await list(problem.refs),
    magnitudes: await list(problem.magnitudes),
    cosines: await list(problem.cosines),
  };
}

/** All stages in one call. */
export async function buildAll(
  arena: Arena,
  values: CodebookCase,
  setting: CodebookSetting = {},
): Promise<CodebookOutputs> {
  const problem = placeProblem(arena, values, setting);
  await invoke(arena.random, ops.buildCodebook, {
    problems: [problem],
    stages: ["graph", "cover", "emit"],
    maxCodewords: values.maxCodewords ?? 0,
    refine: values.refine ?? 0,
  });
  return readProblem(problem, values.headDim);
}

/** The twin's graph as the op stores it: bit 0 of a word is its lowest column; bits past n are 0. */
export function packGraph(graph: Uint8Array, n: number): bigint[] {
  const words: bigint[] = [];
  for (let a = 0; a < n; a++) {
    for (let first = 0; first < n; first += 64) {
      let word = 0n;
      for (let b = first; b < Math.min(n, first + 64); b++) {
        if (graph[a * n + b] === 1) word |= 1n << BigInt(b - first);
      }
      words.push(word);
    }
  }
  return words;
}

export function compareCodebook(got: CodebookOutputs, values: CodebookCase): CodebookResult {
  const twin = buildCodebookTwin(values);
  const packed = packGraph(twin.graph, values.n);
  const wrongWord = packed.findIndex((word, i) => word !== got.graph[i]);
  if (wrongWord >= 0) {
    const [is, be] = [got.graph[wrongWord].toString(16), packed[wrongWord].toString(16)];
    throw new Error(`graph: word ${wrongWord} is ${is}, expected ${be}`);
  }
  compareExact("leaders", got.leaders.slice(0, twin.leaders.length), twin.leaders);
  compareExact("count", [got.count], [twin.count]);
  compareExact("labels", got.labels, twin.refinedLabels);
  compareExact("refs", got.refs, twin.refinedLabels);
  compareExact("codewords", got.codewords, twin.codewords);
  compareExact("magnitudes", got.magnitudes, twin.magnitudes);
  compareExact("cosines", got.cosines, twin.cosines);
  return twin;
}
