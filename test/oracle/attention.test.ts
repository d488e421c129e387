// Anchors of the attention oracles and of the codebook oracle: literal cases worked by hand.
import { describe, expect, it } from "vitest";
import { attendNaive, attendOracle } from "./attend.ts";
import {
  buildCodebookOracle,
  buildCodebookTwin,
  type CodebookCase,
  meanSquaredError,
} from "./build-codebook.ts";
import type { QueryValues, RopeValues, RunValues } from "./types.ts";
import { windowScoresOracle, windowScoresTwin } from "./window-scores.ts";

// Logits are ln(weight), because query and keys have one non-zero dim each and scale is 1.
const keysFor = (weights: number[]) => Float32Array.from(weights.flatMap((w) => [Math.log(w), 0]));

function rawRun(weights: number[], values: number[], rest: Partial<RunValues> = {}): RunValues {
  return {
    codec: "raw",
    rotated: false,
    slots: weights.length,
    k: keysFor(weights),
    v: Float32Array.from(values.flatMap((v) => [v, -v])),
    positions: Int32Array.from(weights.keys()),
    ...rest,
  };
}

function query(rest: Partial<QueryValues>): QueryValues {
  return {
    headDim: 2,
    group: 1,
    queries: 1,
    q: Float32Array.of(1, 0),
    heads: [],
    scale: 1,
    causal: true,
    queryPosition: 10,
    ropeQueryPosition: 10,
    reindex: false,
    ...rest,
  };
}

describe("attend oracle", () => {
  it("weights 1 : 2 : 5 give eighths", () => {
    const result = attendOracle(query({ heads: [[rawRun([1, 2, 5], [8, 16, 24])]] }));
    expect(result.out[0]).toBeCloseTo((8 + 32 + 120) / 8, 5);
    expect(result.out[1]).toBeCloseTo(-20, 5);
    expect(result.lse[0]).toBeCloseTo(Math.log(8), 6);
    expect(Array.from(result.queryHeadScores[0], (p) => Math.round(p * 8))).toEqual([1, 2, 5]);
    const naive = attendNaive(query({ heads: [[rawRun([1, 2, 5], [8, 16, 24])]] }), "f32", "f32");
    expect(naive.out[0]).toBeCloseTo(20, 4);
  });
  it("causal hides later positions, masks hide slots from one head of the group", () => {
    const runs = [rawRun([1, 1, 2], [1, 2, 3], { mask: Uint16Array.of(1, 3, 3) })];
    const values = query({
      heads: [runs],
      group: 2,
      queries: 2,
      q: Float32Array.of(1, 0, 1, 0, 1, 0, 1, 0),
      queryPosition: 1,
    });
    const { out, queryHeadScores, kvHeadScores } = attendOracle(values);
    expect(out[0]).toBeCloseTo(1.5); // head 0, query 0: slots 0 and 1
    expect(out[2]).toBeCloseTo((1 + 2 + 6) / 4); // head 0, query 1: all
    expect(out[4]).toBeCloseTo(2); // head 1, query 0: slot 1 alone
    expect(out[6]).toBeCloseTo((2 + 6) / 3); // head 1, query 1: slots 1 and 2
    expect(queryHeadScores[1][1]).toBeCloseTo(1 + 1 / 3);
    // Summed over the group, not averaged: four queries put mass 4 on the head's slots.
    expect(kvHeadScores[0].reduce((a, b) => a + b)).toBeCloseTo(4);
  });
  it("nothing visible gives zero and -inf", () => {
    const result = attendOracle(query({ heads: [[]] }));
    expect(Array.from(result.out)).toEqual([0, 0]);
    expect(result.lse[0]).toBe(-Infinity);
  });
  it("beta = ln m stands for m equal keys", () => {
    const three = attendOracle(query({ heads: [[rawRun([2, 2, 2, 1], [3, 6, 9, 1])]] }));
    const merged = rawRun([2, 1], [6, 1], { beta: Float32Array.of(Math.log(3), 0) });
    const one = attendOracle(query({ heads: [[merged]] }));
    expect(one.out[0]).toBeCloseTo(three.out[0], 6);
    expect(one.lse[0]).toBeCloseTo(three.lse[0], 6);
  });
  it("codebook rows are magnitude times codeword", () => {
    const codebook: RunValues = {
      codec: "codebook",
      rotated: false,
      slots: 2,
      k: Float32Array.of(0, 1, 1, 0),
      v: Float32Array.of(1, 0),
      kRef: Int32Array.of(1, 0),
      vRef: Int32Array.of(0, 0),
      kMagnitude: Float32Array.of(Math.log(3), 7),
      vMagnitude: Float32Array.of(4, 8),
      positions: Int32Array.of(0, 1),
    };
    const result = attendOracle(query({ heads: [[codebook]] }));
    expect(result.out[0]).toBeCloseTo((3 * 4 + 8) / 4, 5);
  });
  it("rotated queries and keys see the distance; reindexing replaces positions by slot indices", () => {
    const angles = Array.from({ length: 8 }, (_, p) => (p * Math.PI) / 6);
    const rope: RopeValues = {
      cosSin: Float32Array.from(angles.flatMap((a) => [Math.cos(a), Math.sin(a)])),
      nRot: 2,
      style: "norm",
    };
    const run = rawRun([1, 1], [1, 2], {
      k: Float32Array.of(1, 0, 1, 0),
      positions: Int32Array.of(2, 5),
    });
    const base = query({ heads: [[run]], rope, queryPosition: 5, ropeQueryPosition: 5 });
    // Logits: cos of 3 and of 0 steps of 30 degrees = 0 and 1.
    expect(attendOracle(base).lse[0]).toBeCloseTo(Math.log(1 + Math.E), 5);
    // Slots 0 and 1 seen from 1: cos 30 and cos 0.
    const again = attendOracle({ ...base, reindex: true, ropeQueryPosition: 1 });
    expect(again.lse[0]).toBeCloseTo(Math.log(Math.exp(Math.sqrt(3) / 2) + Math.E), 5);
  });
});

describe("window_scores oracle", () => {
  const values = query({
    heads: [[rawRun([1, 3, 4], [0, 0, 0])]],
    queries: 2,
    q: Float32Array.of(1, 0, 1, 0),
    queryPosition: 1,
  });
  for (const [name, scores] of [
    ["oracle", windowScoresOracle],
    ["twin", windowScoresTwin],
  ] as const) {
    it(`${name}: query 0 sees 1 : 3, query 1 sees 1 : 3 : 4`, () => {
      const result = scores(values);
      [1 / 4 + 1 / 8, 3 / 4 + 3 / 8, 1 / 2].forEach((p, s) => {
        expect(result.sum[0][s]).toBeCloseTo(p, 6);
      });
      expect(result.sumSq[0][1]).toBeCloseTo(9 / 16 + 9 / 64, 6);
      expect(result.max[0][1]).toBeCloseTo(0.75, 6);
      const plnp = (p: number) => -p * Math.log(p);
      const entropy = [1 / 4, 3 / 4, 1 / 8, 3 / 8, 1 / 2].map(plnp).reduce((a, b) => a + b);
      expect(result.entropy[0]).toBeCloseTo(entropy, 5);
      expect(result.lse[1]).toBeCloseTo(Math.log(8), 5);
    });
    it(`${name}: norms divide by the window, or by the queries that can see the slot`, () => {
      expect(scores(values, "window").sum[0][2]).toBeCloseTo(1 / 4, 6);
      expect(scores(values, "window").sumSq[0][2]).toBeCloseTo(1 / 8, 6);
      const causal = scores(values, "causalCount");
      expect(causal.sum[0][0]).toBeCloseTo(3 / 8 / 3, 6);
      expect(causal.sum[0][2]).toBeCloseTo(1 / 2, 6);
      expect(causal.sumSq[0][2]).toBeCloseTo(1 / 4, 6);
    });
  }
});

describe("build_codebook oracle", () => {
  // Directions at 0, 20, 40 and 90 degrees; cos 20 = 0.94, cos 40 = 0.77.
  const at = (degrees: number, size: number) => {
    const angle = (degrees * Math.PI) / 180;
    return [size * Math.cos(angle), size * Math.sin(angle)];
  };
  const base: CodebookCase = {
    x: Float32Array.from([...at(0, 1), ...at(20, 2), ...at(40, 1), ...at(90, 3), 0, 0, 0, 0]),
    n: 6,
    headDim: 2,
    dtype: "f32",
    theta: 0.9,
  };
  it("the row with the most neighbours covers first; zero rows share a codeword", () => {
    for (const build of [buildCodebookOracle, buildCodebookTwin]) {
      const result = build(base);
      expect(result.leaders).toEqual([1, 4, 3]);
      expect(Array.from(result.labels)).toEqual([0, 0, 0, 2, 1, 1]);
    }
  });
  it("with a limit the rest goes to the nearest leader", () => {
    const result = buildCodebookTwin({ ...base, maxCodewords: 1 });
    expect(Array.from(result.labels)).toEqual([0, 0, 0, 0, 0, 0]);
    expect(result.cosines[3]).toBeCloseTo(Math.cos((70 * Math.PI) / 180), 5);
  });
  it("refinement moves the codeword to the members' mean while all stay above theta", () => {
    const pair = { ...base, x: Float32Array.from([...at(0, 1), ...at(20, 1)]), n: 2 };
    const before = buildCodebookTwin(pair);
    const after = buildCodebookTwin({ ...pair, refine: 1 });
    expect(after.codewords[0]).toBeCloseTo(Math.cos((10 * Math.PI) / 180), 5);
    expect(meanSquaredError(pair, after.refinedLabels, after.codewords)).toBeLessThan(
      meanSquaredError(pair, before.refinedLabels, before.codewords),
    );
    expect(Array.from(after.magnitudes)).toEqual([1, 1]);
  });
});
