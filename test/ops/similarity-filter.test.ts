// Comparisons that an approximation could get wrong: products at a threshold or within its error of it, codewords
// that differ in the last bit, rows of odd lengths. nearest_codeword and build_codebook give the bits of the twin.
import { expect, it } from "vitest";
import { ops } from "../harness/api.ts";
import { describeOp, runCase } from "../harness/backends.ts";
import { buildAll, compareCodebook, makeRows, type RowKind } from "../harness/codebook.ts";
import { compareExact } from "../harness/compare.ts";
import { nearestCodewordTwin } from "../harness/oracles.ts";
import type { Prng } from "../harness/prng.ts";
import { type Arena, readNumbers } from "../harness/tensors.ts";
import type { CodebookCase } from "../oracle/build-codebook.ts";
import { type FloatDType, roundTo, ulpOf } from "../oracle/float-formats.ts";
import { dot, fround, unit } from "../oracle/float32.ts";

interface Search {
  readonly x: Float32Array;
  readonly codewords: Float32Array;
  readonly n: number;
  readonly c: number;
  readonly headDim: number;
  readonly normalize: boolean;
}

async function expectTwin(arena: Arena, dtype: FloatDType, values: Search): Promise<void> {
  const { x, codewords, n, c, headDim, normalize } = values;
  const problem = {
    x: arena.input(dtype, [n, headDim], x),
    codewords: arena.input(dtype, [c, headDim], codewords),
    index: arena.output("i32", [n]),
    score: arena.output("f32", [n]),
    norm: arena.output("f32", [n]),
  };
  ops.nearestCodeword.sync({ problems: [problem], normalize });
  const twin = nearestCodewordTwin(values);
  compareExact("index", await readNumbers(problem.index), twin.index);
  compareExact("score", await readNumbers(problem.score), twin.score);
  compareExact("norm", await readNumbers(problem.norm), twin.norm);
}

const normals = (count: number, dtype: FloatDType, random: Prng, scale = 1) =>
  Float32Array.from({ length: count }, () => roundTo(dtype, scale * random.normal()));

/** Groups of `alike` codewords, each a step of the dtype in a few dims away from the first of its group. */
function nearlyAlike(
  c: number,
  headDim: number,
  alike: number,
  dtype: FloatDType,
  random: Prng,
): Float32Array {
  const codewords = normals(c * headDim, dtype, random);
  for (let j = 0; j < c; j++) {
    if (j % alike === 0) continue;
    codewords.copyWithin(j * headDim, (j - 1) * headDim, j * headDim);
    for (let change = random.integer(0, 2); change > 0; change--) {
      const at = j * headDim + random.integer(0, headDim - 1);
      codewords[at] = roundTo(dtype, codewords[at] + ulpOf(dtype, codewords[at]));
    }
  }
  return codewords;
}

describeOp("codewords within the error of an approximation are told apart", (_, device) => {
  for (const dtype of ["f32", "f16", "bf16"] as const) {
    // One rival, two, and as many as make a panel of rows worth while.
    for (const alike of [2, 3, 4, 40]) {
      it(`${dtype}, ${alike} nearly alike`, async () => {
        for (const headDim of [8, 40, 128, 512]) {
          for (const normalize of [true, false]) {
            const id = `seed=171 ${dtype} alike=${alike} D=${headDim} ${normalize}`;
            await runCase(device, id, async (arena, random) => {
              const [n, c] = [66, 80];
              const x = normals(n * headDim, dtype, random);
              const codewords = nearlyAlike(c, headDim, alike, dtype, random);
              await expectTwin(arena, dtype, { x, codewords, n, c, headDim, normalize });
            });
          }
        }
      });
    }
  }

  it("more codewords than one pass ranks, equal ones in different passes", async () => {
    await runCase(device, "seed=172", async (arena, random) => {
      const [n, c, headDim] = [3, 2 ** 14 + 70, 8];
      const x = normals(n * headDim, "f16", random);
      const some = normals(999 * headDim, "f16", random);
      const codewords = Float32Array.from(
        { length: c * headDim },
        (_v, i) => some[i % some.length],
      );
      await expectTwin(arena, "f16", { x, codewords, n, c, headDim, normalize: true });
    });
  });
});

describeOp("rows and codewords of any length", (_, device) => {
  const lengths = {
    "powers of two from 2^-60 to 2^60": (random: Prng) => 2 ** random.integer(-60, 60),
    "zero, subnormal, or so large that squares overflow": (random: Prng) =>
      random.pick([0, 1, 2 ** -130, 2 ** -75, 2 ** 62, 2 ** 66]),
    "some infinite or not a number": (random: Prng) =>
      random.pick([1, 1, 1, 3, Infinity, -Infinity, Number.NaN]),
  };
  for (const [name, lengthOf] of Object.entries(lengths)) {
    for (const whose of ["rows", "codewords", "both"] as const) {
      it(`${name}: ${whose}`, async () => {
        for (const dtype of ["f32", "bf16"] as const) {
          for (const normalize of [true, false]) {
            const id = `seed=173 ${name} ${whose} ${dtype} ${normalize}`;
            await runCase(device, id, async (arena, random) => {
              const [n, c, headDim] = [70, 33, 24];
              const scaled = (count: number, isScaled: boolean) => {
                const values = normals(count * headDim, dtype, random);
                for (let i = 0; i < count; i++) {
                  const length = isScaled ? lengthOf(random) : 1;
                  for (let d = i * headDim; d < (i + 1) * headDim; d++) {
                    values[d] = roundTo(dtype, values[d] * length);
                  }
                }
                return values;
              };
              const x = scaled(n, whose !== "codewords");
              const codewords = scaled(c, whose !== "rows");
              await expectTwin(arena, dtype, { x, codewords, n, c, headDim, normalize });
            });
          }
        }
      });
    }
  }
});

describeOp("products exactly at theta are not above it", (_, device) => {
  // Rows of +-1: units are exact, and products are multiples of 2 / D.
  for (const headDim of [16, 64, 256]) {
    it(`rows of signs, D=${headDim}`, async () => {
      for (const theta of [-0.125, 0, 0.125, 0.5]) {
        // Of many rows at theta a tile is full, of few a pair or two is left to decide.
        for (const isFew of [true, false]) {
          const id = `seed=174 D=${headDim} theta=${theta} few=${isFew}`;
          await runCase(device, id, async (arena, random) => {
            const n = 130;
            const x = new Float32Array(n * headDim);
            for (let i = 0; i < n; i++) {
              const flips = isFew ? random.integer(0, headDim) : (headDim * (1 - theta)) / 4;
              for (let d = 0; d < headDim; d++) x[i * headDim + d] = 1;
              for (let f = 0; f < flips; f++) x[i * headDim + random.integer(0, headDim - 1)] = -1;
            }
            const values = { x, n, headDim, dtype: "f16" as const, theta };
            compareCodebook(await buildAll(arena, values), values);
          });
        }
      }
    });
  }

  it("theta is a product of two of the rows, or the number before or after it", async () => {
    for (let seed = 0; seed < 24; seed++) {
      const dtype = (["f32", "f16", "bf16"] as const)[seed % 3];
      await runCase(device, `seed=175 ${seed} ${dtype}`, async (arena, random) => {
        const [n, headDim] = [80, random.pick([8, 24, 64, 96, 128])];
        const x = makeRows("clusters", n, headDim, dtype, random);
        const unitOf = (row: number) => unit(x, row * headDim, headDim);
        const product = dot(
          unitOf(random.integer(0, 39)),
          0,
          unitOf(random.integer(40, 79)),
          0,
          headDim,
        );
        const theta = Math.min(1, fround(product + random.integer(-1, 1) * ulpOf("f32", product)));
        const values = { x, n, headDim, dtype, theta, refine: 1 };
        const twin = compareCodebook(await buildAll(arena, values), values);
        expect(twin.count).toBeGreaterThan(0);
      });
    }
  });
});

describeOp("any rows, any theta", (_, device) => {
  const kinds: readonly RowKind[] = [
    "clusters",
    "normal",
    "duplicates",
    "some-zeros",
    "subnormal",
    "outlier",
  ];
  for (const kind of kinds) {
    it(`rows: ${kind}`, async () => {
      for (let seed = 0; seed < 12; seed++) {
        const dtype = (["f32", "f16", "bf16"] as const)[seed % 3];
        await runCase(device, `seed=176 ${seed} ${kind} ${dtype}`, async (arena, random) => {
          const headDim = random.pick([8, 16, 40, 64, 72, 128]);
          const n = random.integer(1, 150);
          const values: CodebookCase = {
            x: makeRows(kind, n, headDim, dtype, random),
            n,
            headDim,
            dtype,
            theta: fround(random.pick([2 * random.uniform() - 1, 1 - 0.2 * random.uniform()])),
            refine: random.integer(0, 3),
            maxCodewords: random.pick([0, 0, 3, 20]),
          };
          compareCodebook(await buildAll(arena, values), values);
        });
      }
    });
  }

  it("more rows than one cache line of the graph holds", async () => {
    for (const kind of ["clusters", "duplicates"] as const) {
      await runCase(device, `seed=177 ${kind}`, async (arena, random) => {
        const [n, headDim] = [1100, 8];
        const x = makeRows(kind, n, headDim, "f16", random);
        const values = { x, n, headDim, dtype: "f16" as const, theta: 0.97 };
        compareCodebook(await buildAll(arena, values), values);
      });
    }
  });
});

/**
 * Magnitudes of a row of length 2^15 that are all near 256 h + end: cut to multiples of 256, all of them err one way.
 */
function alikeEnding(headDim: number, end: number): number[] {
  const least = 256 * Math.floor((2 ** 15 / Math.sqrt(headDim) - end) / 256) + end;
  const step = (least + 256) ** 2 - least ** 2;
  const larger = Math.round((2 ** 30 - headDim * least ** 2) / step);
  return Array.from({ length: headDim }, (_, d) => (d < larger ? least + 256 : least));
}

describeOp("units whose high bytes alone are far off", (_, device) => {
  for (const headDim of [64, 128, 192, 256, 512]) {
    for (const end of [100, -100]) {
      it(`D=${headDim}, parts below a multiple of 256 near ${end}`, async () => {
        for (const away of [-0.02, -5e-4, -1e-6, 0, 1e-6, 5e-4, 0.02]) {
          const id = `seed=179 D=${headDim} end=${end} away=${away}`;
          await runCase(device, id, async (arena, random) => {
            const n = 2 * 67;
            const magnitudes = alikeEnding(headDim, end);
            const x = new Float32Array(n * headDim);
            const sign = (row: number, d: number, value: number) => {
              x[row * headDim + d] = value * (magnitudes[d] as number);
            };
            // Every row has one partner, in another block; 1/16 of its signs differ.
            for (let row = 0; row < n / 2; row++) {
              for (let d = 0; d < headDim; d++) {
                const value = random.integer(0, 1) === 0 ? 1 : -1;
                sign(row, d, value);
                sign(row + n / 2, d, d % 16 === row % 16 ? -value : value);
              }
            }
            const product = dot(
              unit(x, 0, headDim),
              0,
              unit(x, (n / 2) * headDim, headDim),
              0,
              headDim,
            );
            const values = { x, n, headDim, dtype: "f32" as const, theta: fround(product + away) };
            const twin = compareCodebook(await buildAll(arena, values), values);
            expect(twin.count).toBeGreaterThanOrEqual(n / 2);
          });
        }
      });
    }
  }
});

describeOp("units at the limits of their integer form", (_, device) => {
  it("one dim of 1, all dims alike, alternating signs", async () => {
    for (const headDim of [8, 128, 512]) {
      await runCase(device, `seed=178 D=${headDim}`, async (arena) => {
        const n = 70;
        const x = Float32Array.from({ length: n * headDim }, (_v, i) => {
          const [row, d] = [Math.floor(i / headDim), i % headDim];
          if (row % 4 === 0) return d === row % headDim ? 3 : 0;
          if (row % 4 === 1) return d === row % headDim ? -3 : 0;
          return row % 4 === 2 ? 1 + (row % 3) : d % 2 === 0 ? 1 : -(1 + (row % 3));
        });
        for (const theta of [-1, 0, 0.98]) {
          const values = { x, n, headDim, dtype: "f32" as const, theta, refine: 1 };
          compareCodebook(await buildAll(arena, values), values);
        }
        for (const normalize of [true, false]) {
          const search = { x, n, codewords: x, c: n, headDim, normalize };
          await expectTwin(arena, "f32", search);
        }
      });
    }
  });
});
