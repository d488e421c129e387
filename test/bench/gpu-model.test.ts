// Reading machine code: a kernel whose instructions are known is compiled here and counted.
import { spawnSync } from "node:child_process";
import { mkdtempSync, readFileSync, rmSync, writeFileSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { afterAll, beforeAll, describe, expect, it } from "vitest";

// The scripts are plain JavaScript: what the test uses of them is typed here.
interface Section {
  readonly name: string;
  readonly data: Buffer;
}
interface Line {
  readonly address: number;
  readonly file: string;
  readonly line: number;
}
interface Loop {
  readonly first: number;
  readonly last: number;
  readonly branches: readonly number[];
}
interface Cubin {
  sectionsOf(bytes: Buffer): Section[];
  linesOf(sections: Section[]): Map<number, Line[]>;
}
interface Sass {
  loopsOf(code: Buffer, architecture: string): Loop[];
  histogramOf(code: Buffer, isCounted?: (at: number) => boolean): Record<string, number>;
}
interface Predict {
  usedShare(blocks: number, resident: number, sms: number): number;
}
const load = async <T>(path: string) => (await import(`../../scripts/${path}`)) as T;

const source = `
__global__ void sums(const float4* in, float* out, int rows, int rounds) {
  __shared__ float tile[128];
  float sum = 0.0f;
#pragma unroll 1
  for (int row = 0; row < rows; ++row) {
    const float4 x = in[row * 128 + threadIdx.x];
    tile[threadIdx.x] = x.x;
    __syncthreads();
#pragma unroll 1
    for (int i = 0; i < rounds; ++i) sum = fmaf(sum, x.y, x.z);
    sum += tile[threadIdx.x ^ 1];
    __syncthreads();
  }
  out[threadIdx.x] = sum;
}
`;
const lineOf = (text: string) => source.split("\n").findIndex((line) => line.includes(text)) + 1;
const hasNvcc = spawnSync("nvcc", ["--version"]).status === 0;

describe.each(["sm_80", "sm_90a", "sm_120"])("machine code of %s", (architecture) => {
  let folder = "";
  let code: Buffer = Buffer.alloc(0);
  let lines: Line[] = [];
  let sass: Sass;
  const lineAt = (at: number) => lines.findLast(({ address }) => address <= at)?.line;

  beforeAll(async () => {
    if (!hasNvcc) return;
    folder = mkdtempSync(join(tmpdir(), "spindlekv-sass-"));
    writeFileSync(join(folder, "sums.cu"), source);
    const words = ["-cubin", "-lineinfo", `-arch=${architecture}`, "sums.cu", "-o", "sums.cubin"];
    const { status, stderr } = spawnSync("nvcc", words, { cwd: folder, encoding: "utf8" });
    expect(status, stderr).toBe(0);
    const cubin = await load<Cubin>("support/cubin.mjs");
    sass = await load<Sass>("support/sass.mjs");
    const sections = cubin.sectionsOf(readFileSync(join(folder, "sums.cubin")));
    const index = sections.findIndex(({ name }) => name.startsWith(".text."));
    code = sections[index].data;
    lines = cubin.linesOf(sections).get(index) ?? [];
  }, 60_000);
  afterAll(() => {
    if (folder) rmSync(folder, { recursive: true });
  });

  it("finds both loops, one inside the other, at their lines of the source", ({ skip }) => {
    if (!hasNvcc) skip("no nvcc");
    const loops = sass.loopsOf(code, architecture);
    expect(loops).toHaveLength(2);
    const [outer, inner] = loops;
    expect(outer.first).toBeLessThan(inner.first);
    expect(outer.last).toBeGreaterThan(inner.last);
    expect(outer.branches.map(lineAt)).toEqual([lineOf("for (int row")]);
    expect(inner.branches.map(lineAt)).toEqual([lineOf("for (int i")]);
  });

  it("counts by class and width what a round of each loop has", ({ skip }) => {
    if (!hasNvcc) skip("no nvcc");
    const counts = sass
      .loopsOf(code, architecture)
      .map(({ first, last }) => sass.histogramOf(code, (at) => at >= first && at <= last));
    expect(counts[0]).toMatchObject({
      "LDG.128": 1,
      "STS.32": 1,
      "LDS.32": 1,
      BAR: 2,
      FFMA: 1,
      FADD: 1,
    });
    expect(counts[1]).toMatchObject({ FFMA: 1 });
    expect(counts[1]["LDG.128"]).toBeUndefined();
    expect(counts[1].instructions).toBeLessThan(8);
  });
});

describe("the share of a device that blocks use", () => {
  it("falls where the last round of blocks is short", async () => {
    const { usedShare } = await load<Predict>("gpu-model/predict.mjs");
    expect(usedShare(264, 2, 132)).toBe(1);
    expect(usedShare(265, 2, 132)).toBeCloseTo(265 / 528, 6);
    expect(usedShare(133, 4, 132)).toBeCloseTo(133 / 264, 6);
    expect(usedShare(66, 4, 132)).toBeCloseTo(0.5, 6);
  });
});
