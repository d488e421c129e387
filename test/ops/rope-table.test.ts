// makeRopeTable: cosines and sines of the published angle formulas, in float64, rounded once.
import { expect, it } from "vitest";
import { type Device, makeRopeTable } from "../harness/api.ts";
import { describeOp } from "../harness/backends.ts";
import { compareWithin } from "../harness/compare.ts";
import { readNumbers } from "../harness/tensors.ts";
import { ropeTableBound } from "../harness/tolerance.ts";

const THETA = 10_000;
const N_ROT = 64;
const POSITIONS = 200;

const plainFrequency = (i: number) => THETA ** ((-2 * i) / N_ROT);

async function compareTable(
  device: Device,
  scaling: Parameters<typeof makeRopeTable>[1]["scaling"],
  frequency: (i: number) => number,
  magnitude = 1,
): Promise<void> {
  const table = makeRopeTable(device, { theta: THETA, nRot: N_ROT, positions: POSITIONS, scaling });
  expect(table.shape).toEqual([POSITIONS, N_ROT / 2, 2]);
  const expected: number[] = [];
  for (let p = 0; p < POSITIONS; p++) {
    for (let i = 0; i < N_ROT / 2; i++) {
      const angle = p * frequency(i);
      expected.push(magnitude * Math.cos(angle), magnitude * Math.sin(angle));
    }
  }
  compareWithin("table", await readNumbers(table), expected, {
    element: () => magnitude * ropeTableBound(),
  });
  table.dispose();
}

describeOp("the table holds the angles of its scaling", (_, device) => {
  it("none: p theta^(-2i/n)", async () => {
    await compareTable(device, { kind: "none" }, plainFrequency);
    await compareTable(device, undefined, plainFrequency);
  });

  it("linear: positions divided by the factor", async () => {
    await compareTable(device, { kind: "linear", factor: 4 }, (i) => plainFrequency(i) / 4);
  });

  it("llama3: long wavelengths divided, short ones kept, a ramp between", async () => {
    const scaling = {
      factor: 8,
      lowFreqFactor: 1,
      highFreqFactor: 4,
      originalPositions: 128,
    } as const;
    await compareTable(device, { kind: "llama3", ...scaling }, (i) => {
      const frequency = plainFrequency(i);
      const wavelength = (2 * Math.PI) / frequency;
      if (wavelength < 128 / 4) return frequency;
      if (wavelength > 128) return frequency / 8;
      const smooth = (128 / wavelength - 1) / (4 - 1);
      return ((1 - smooth) * frequency) / 8 + smooth * frequency;
    });
  });

  it("factors: every pair divided by its own", async () => {
    const factors = Array.from({ length: N_ROT / 2 }, (_, i) => 1 + i / 7);
    await compareTable(device, { kind: "factors", factors }, (i) => plainFrequency(i) / factors[i]);
  });

  it("refuses factors that are not one positive number a pair", () => {
    const make = (factors: unknown) => () =>
      makeRopeTable(device, {
        theta: THETA,
        nRot: N_ROT,
        positions: POSITIONS,
        scaling: { kind: "factors", factors: factors as number[] },
      });
    expect(make([1, 2])).toThrow("expected 32 numbers for scaling.factors, got 2");
    expect(make(Array(32).fill(0))).toThrow("numbers > 0 for scaling.factors, got 0");
    expect(make(Array(32).fill("1"))).toThrow("expected numbers for scaling.factors");
    expect(make(4)).toThrow("expected an array for scaling.factors");
  });

  it("yarn: pairs below the slow turn are divided, above the fast one kept, and all lengthened", async () => {
    const [factor, original, fast, slow] = [4, 64, 32, 1];
    const pairOfTurns = (turns: number) =>
      (N_ROT * Math.log(original / (turns * 2 * Math.PI))) / (2 * Math.log(THETA));
    const low = Math.max(0, Math.floor(pairOfTurns(fast)));
    const high = Math.min(N_ROT - 1, Math.ceil(pairOfTurns(slow)));
    const scaling = {
      kind: "yarn",
      factor,
      originalPositions: original,
      betaFast: fast,
      betaSlow: slow,
    };
    await compareTable(
      device,
      scaling as { kind: "yarn"; factor: number; originalPositions: number },
      (i) => {
        const ramp = Math.min(1, Math.max(0, (i - low) / (high - low)));
        return (plainFrequency(i) / factor) * ramp + plainFrequency(i) * (1 - ramp);
      },
      0.1 * Math.log(factor) + 1,
    );
  });
});
