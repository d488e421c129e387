import { readdirSync, writeFileSync } from "node:fs";
import { join } from "node:path";
import { describe, expect, it } from "vitest";
import { openSafetensors } from "../../lib/cli/safetensors-reader.ts";
import { type OutputTensor, writeSafetensors } from "../../lib/cli/safetensors-writer.ts";
import { SpindleKVError } from "../../lib/errors.ts";
import { Prng } from "../harness/prng.ts";
import { bytesOf, readAll, scratchFolder } from "./support.ts";

const folder = scratchFolder();
const path = join(folder, "file.safetensors");

const someTensors: OutputTensor[] = [
  { name: "a", dtype: "I32", shape: [2, 2], data: Int32Array.of(-1, 0, 7, 2 ** 31 - 1) },
  { name: 'layers.0.é"', dtype: "F32", shape: [3], data: Float32Array.of(1.5, -0, 3e38) },
  { name: "half", dtype: "F16", shape: [1, 3], data: Uint16Array.of(0x3c00, 0xc000, 0x0001) },
  { name: "brain", dtype: "BF16", shape: [1], data: Uint16Array.of(0x3f80) },
  { name: "big", dtype: "I64", shape: [2], data: BigInt64Array.of(-5n, 2n ** 40n) },
  { name: "empty", dtype: "F32", shape: [0, 4], data: new Float32Array(0) },
  { name: "scalar", dtype: "F32", shape: [], data: Float32Array.of(0.25) },
];

/** A file of any header and data. */
function fileOf(header: unknown, dataBytes: number): Buffer {
  const json = Buffer.from(typeof header === "string" ? header : JSON.stringify(header));
  const length = Buffer.alloc(8);
  length.writeBigUInt64LE(BigInt(json.length));
  return Buffer.concat([length, json, Buffer.alloc(dataBytes)]);
}

async function refusalOf(bytes: Buffer): Promise<SpindleKVError> {
  writeFileSync(path, bytes);
  try {
    await using file = await openSafetensors(path);
    throw new Error(`opened a file of ${file.tensors.size} tensors`);
  } catch (error) {
    expect(error).toBeInstanceOf(SpindleKVError);
    expect((error as SpindleKVError).code).toBe("ERR_SPINDLEKV_FILE");
    return error as SpindleKVError;
  }
}

const entry = (shape: unknown, offsets: unknown, dtype: unknown = "F32") => ({
  dtype,
  shape,
  data_offsets: offsets,
});

describe("safetensors files", () => {
  it("come back as they were written", async () => {
    await writeSafetensors(path, someTensors, { method: "snapkv", report: '{"bytes":1}' });
    const { tensors, metadata } = await readAll(path);
    expect(Object.fromEntries(metadata)).toEqual({ method: "snapkv", report: '{"bytes":1}' });
    expect([...tensors.keys()].sort()).toEqual(someTensors.map(({ name }) => name).sort());
    expect(tensors.get("a")).toEqual({
      dtype: "I32",
      shape: [2, 2],
      values: [-1, 0, 7, 2 ** 31 - 1],
    });
    expect(tensors.get('layers.0.é"')?.values).toEqual([1.5, -0, Math.fround(3e38)]);
    expect(tensors.get("half")?.values).toEqual([1, -2, 2 ** -24]);
    expect(tensors.get("brain")?.values).toEqual([1]);
    expect(tensors.get("big")?.values).toEqual([-5, 2 ** 40]);
    expect(tensors.get("empty")).toEqual({ dtype: "F32", shape: [0, 4], values: [] });
    expect(tensors.get("scalar")).toEqual({ dtype: "F32", shape: [], values: [0.25] });
  });

  it("store every tensor at a multiple of its element", async () => {
    await writeSafetensors(path, someTensors, {});
    await using file = await openSafetensors(path);
    const elements: Record<string, number> = { F16: 2, BF16: 2, F32: 4, I32: 4, I64: 8 };
    for (const { offset, dtype } of file.tensors.values()) expect(offset % elements[dtype]).toBe(0);
  });

  it("are read when the header has no padding and tensors lie in another order", async () => {
    const header = { b: entry([1], [4, 8], "I32"), a: entry([2], [0, 4], "F16") };
    writeFileSync(path, fileOf(header, 8));
    await using file = await openSafetensors(path);
    expect((await file.read("b")).byteLength).toBe(4);
    await expect(file.read("c")).rejects.toThrow(/expected a tensor for c, got none/);
  });

  it("leave nothing behind when writing fails", async () => {
    const taken = scratchFolder();
    await expect(
      writeSafetensors(join(folder, "no/such/folder"), someTensors, {}),
    ).rejects.toThrow();
    await expect(writeSafetensors(taken, someTensors, {})).rejects.toThrow();
    expect(readdirSync(folder)).toEqual(["file.safetensors"]);
  });
});

describe("a file that is not safetensors is refused with a reason", () => {
  const nearest = entry([2], [0, 8]);
  it.each<[string, Buffer, RegExp]>([
    ["empty", Buffer.alloc(0), /at least 8 bytes/],
    ["a length alone", Buffer.alloc(7), /at least 8 bytes/],
    ["no header", Buffer.alloc(8), /a JSON header/],
    ["a header longer than any", Buffer.alloc(64, 0xff), /at most 100000000 bytes/],
    ["header not JSON", fileOf("{nope}", 0), /a JSON header/],
    [
      "header not UTF-8",
      Buffer.concat([Buffer.from([1, 0, 0, 0, 0, 0, 0, 0, 0xff])]),
      /a JSON header/,
    ],
    ["header an array", fileOf([], 0), /a JSON object as header/],
    ["header null", fileOf("null", 0), /a JSON object as header/],
    ["an entry null", fileOf({ a: null }, 0), /dtype of tensor "a", got undefined/],
    [
      "unknown dtype",
      fileOf({ a: entry([2], [0, 8], "F31") }, 8),
      /dtype of tensor "a", got "F31"/,
    ],
    ["inherited dtype", fileOf({ a: entry([2], [0, 8], "toString") }, 8), /got "toString"/],
    ["no shape", fileOf({ a: entry(undefined, [0, 8]) }, 8), /shape of tensor "a", got undefined/],
    ["negative size", fileOf({ a: entry([-2], [0, 8]) }, 8), /shape of tensor "a"/],
    ["fractional size", fileOf({ a: entry([0.5], [0, 2]) }, 2), /shape of tensor "a"/],
    ["no offsets", fileOf({ a: entry([2], undefined) }, 8), /two ascending offsets/],
    ["one offset", fileOf({ a: entry([2], [0]) }, 8), /two ascending offsets/],
    ["offsets backwards", fileOf({ a: entry([2], [8, 0]) }, 8), /two ascending offsets/],
    ["offsets out of range", fileOf({ a: entry([4], [0, 16]) }, 8), /within the 8 bytes of data/],
    ["offsets of another size", fileOf({ a: entry([3], [0, 8]) }, 8), /expected 12 bytes/],
    [
      "a size beyond counting",
      fileOf({ a: entry([2 ** 52, 2 ** 52], [0, 8]) }, 8),
      /expected .* bytes/,
    ],
    ["overlap", fileOf({ a: nearest, b: entry([2], [4, 12]) }, 12), /an overlap at "b"/],
    ["twice the same place", fileOf({ a: nearest, b: nearest }, 8), /an overlap at "b"/],
    ["hole", fileOf({ a: nearest, b: entry([1], [12, 16]) }, 16), /a hole at "b"/],
    ["bytes at the end", fileOf({ a: nearest }, 9), /got 1 more after the last tensor/],
    ["metadata not strings", fileOf({ __metadata__: { a: 1 } }, 0), /for __metadata__/],
    ["metadata null", fileOf({ __metadata__: null }, 0), /for __metadata__/],
  ])("%s", async (_, bytes, reason) => {
    expect((await refusalOf(bytes)).message).toMatch(reason);
  });

  it("every proper prefix of a file", async () => {
    await writeSafetensors(path, someTensors, { method: "full" });
    const whole = bytesOf(path) as Buffer;
    for (let length = 0; length < whole.length; length++) {
      const error = await refusalOf(whole.subarray(0, length));
      expect(error.message, `${length} bytes`).toMatch(/^readSafetensors: expected .+, got .+/s);
    }
  });

  it("any byte changed: read or refused, never anything else", async () => {
    await writeSafetensors(path, someTensors, { method: "full" });
    const whole = bytesOf(path) as Buffer;
    const random = new Prng(5);
    let refused = 0;
    for (let round = 0; round < 300; round++) {
      const bytes = Buffer.from(whole);
      bytes[random.integer(0, whole.length - 1)] = random.integer(0, 255);
      writeFileSync(path, bytes);
      try {
        await readAll(path);
      } catch (error) {
        expect(error).toMatchObject({ code: "ERR_SPINDLEKV_FILE" });
        refused += 1;
      }
    }
    expect(refused).toBeGreaterThan(50);
  });
});
