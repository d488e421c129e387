import { fileURLToPath } from "node:url";
import { describe, expect, it } from "vitest";
import { parseGguf, readGguf } from "../../lib/runtimes/gguf-llama/index.ts";
import { halfToFloat } from "../../lib/runtimes/gguf-llama/tensor-types.ts";
import { floatTensor, writeGguf } from "./gguf-writer.ts";

const modelPath = fileURLToPath(new URL("../model/recall.gguf", import.meta.url));
const metadata = {
  "general.architecture": "llama",
  "a.number": 7,
  "a.flag": true,
  "a.list": ["x"],
};
const sample = () =>
  writeGguf(metadata, {
    floats: floatTensor([3, 2], [1, 2, 3, 4, 5, 6]),
    halves: { shape: [4], type: 1, bytes: Uint8Array.of(0, 0x3c, 0, 0xc0, 1, 0, 0, 0x7c) },
    brains: { shape: [2], type: 30, bytes: Uint8Array.of(0x80, 0x3f, 0x20, 0xc0) },
    packed: { shape: [32], type: 2, bytes: new Uint8Array(18) },
  });

describe("a GGUF file is read", () => {
  it("with its metadata and its directory", () => {
    const file = parseGguf(sample());
    expect(file.version).toBe(3);
    expect(Object.fromEntries(file.metadata)).toEqual(metadata);
    expect([...file.tensors.keys()]).toEqual(["floats", "halves", "brains", "packed"]);
    expect(file.tensors.get("floats")).toMatchObject({ shape: [3, 2], type: "f32" });
  });

  it("with f32, f16 and bf16 tensors as float32", () => {
    const file = parseGguf(sample());
    expect(Array.from(file.readTensor("floats"))).toEqual([1, 2, 3, 4, 5, 6]);
    expect(Array.from(file.readTensor("halves"))).toEqual([1, -2, 2 ** -24, Infinity]);
    expect(Array.from(file.readTensor("brains"))).toEqual([1, -2.5]);
  });

  it("with q8_0 tensors as float32: 32 bytes times their scale", () => {
    const bytes = Buffer.alloc(68);
    bytes.writeUInt16LE(0x3800, 0); // 0.5
    for (let i = 0; i < 32; i++) bytes.writeInt8(i * 8 - 128, 2 + i);
    bytes.writeUInt16LE(0xc000, 34); // -2
    bytes.writeInt8(3, 36);
    const file = parseGguf(writeGguf({}, { blocks: { shape: [32, 2], type: 8, bytes } }));
    expect(file.tensors.get("blocks")).toMatchObject({ type: "q8_0" });
    const expected = [
      ...Array.from({ length: 32 }, (_, i) => i * 4 - 64),
      -6,
      ...Array(31).fill(0),
    ];
    expect(Array.from(file.readTensor("blocks"), (x) => x + 0)).toEqual(expected);
  });

  it("from disk: the recall model", async () => {
    const file = await readGguf(modelPath);
    expect(file.metadata.get("general.architecture")).toBe("llama");
    expect(file.tensors.size).toBe(56);
    expect(file.readTensor("blk.5.ffn_down.weight")).toHaveLength(512 * 192);
    expect(file.readTensor("token_embd.weight").every(Number.isFinite)).toBe(true);
  });

  it("with f16 as IEEE 754 has it", () => {
    // One, the smallest and largest subnormal, the smallest normal, the largest, -0, NaN.
    expect(halfToFloat(0x3c00)).toBe(1);
    expect(halfToFloat(0x0001)).toBe(2 ** -24);
    expect(halfToFloat(0x03ff)).toBe(1023 * 2 ** -24);
    expect(halfToFloat(0x0400)).toBe(2 ** -14);
    expect(halfToFloat(0x7bff)).toBe(65_504);
    expect(Object.is(halfToFloat(0x8000), -0)).toBe(true);
    expect(halfToFloat(0x7e00)).toBeNaN();
  });
});

describe("a file that is not right ends in an error that names the place", () => {
  const whole = sample();
  const patched = (at: number, ...bytes: number[]) => {
    const copy = Buffer.from(whole);
    copy.set(bytes, at);
    return copy;
  };

  it("at every length short of the whole header", () => {
    const floats = parseGguf(whole).tensors.get("floats");
    for (let length = 0; length < (floats?.byteOffset ?? 0); length++) {
      expect(() => parseGguf(whole.subarray(0, length), "cut"), `${length} bytes`).toThrow(
        /^gguf-llama: cut: expected .*got/,
      );
    }
  });

  it("when tensor data is cut", () => {
    const brains = parseGguf(whole).tensors.get("brains");
    const end = (brains?.byteOffset ?? 0) + 4;
    expect(() => parseGguf(whole.subarray(0, end - 1))).toThrow(/4 bytes for tensor "brains"/);
  });

  it("when rows are not whole blocks", () => {
    const odd = { odd: { shape: [16, 2], type: 8, bytes: new Uint8Array(34) } };
    expect(() => parseGguf(writeGguf({}, odd))).toThrow(
      /rows of a multiple of 32 elements for "odd", got 16/,
    );
  });

  it("when it is another kind of file", () => {
    expect(() => parseGguf(Buffer.from("PK\u0003\u0004 and so on"))).toThrow(/magic bytes "GGUF"/);
    expect(() => parseGguf(patched(4, 1))).toThrow(/version 2 or 3, got 1/);
  });

  it("when counts and lengths are absurd", () => {
    expect(() => parseGguf(patched(8, 255, 255, 255, 255))).toThrow(/tensor count that fits/);
    expect(() => parseGguf(patched(16, 255, 255, 255, 255))).toThrow(/metadata count that fits/);
    expect(() => parseGguf(patched(24, 255, 255, 255))).toThrow(/metadata key 0 at offset/);
    expect(() => parseGguf(patched(31, 255))).toThrow(/length of metadata key 0 below 2\^53/);
  });

  it("when a type number is unknown", () => {
    const typeAt = 24 + 8 + "general.architecture".length;
    expect(() => parseGguf(patched(typeAt, 13))).toThrow(
      /type number of 0 to 12 for value of "general.architecture", got 13/,
    );
  });

  it("when text is not UTF-8", () => {
    expect(() => parseGguf(patched(32, 0xff))).toThrow(/UTF-8 for metadata key 0/);
  });

  it("when a tensor is asked for that is absent or quantised", () => {
    const file = parseGguf(whole, "sample");
    expect(() => file.readTensor("nothing")).toThrow('sample: there is no tensor "nothing"');
    expect(() => file.readTensor("packed")).toThrow(
      /one of f32, f16, q8_0, bf16 for "packed", got ggml type 2/,
    );
  });

  it("when it is not there at all", async () => {
    await expect(readGguf("no/such/file.gguf")).rejects.toThrow(/ENOENT/);
  });
});
